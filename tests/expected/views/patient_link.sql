SELECT
  *
FROM (
  SELECT
    "t4"."site",
    "t4"."id",
    "t4"."version_id",
    "t4"."sync",
    "t4"."key",
    "t4"."active",
    CASE
      WHEN (
        "t4"."_item4_0"."type" >= '['
      )
      AND (
        (
          "t4"."_item4_0"."type" < ']'
        ) OR (
          "t4"."_item4_0"."type" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t4"."_item4_0"."type")
          THEN CAST(NULL AS TEXT)
          ELSE "t4"."_item4_0"."type"
        END,
        CHR(127),
        ''
      )
      ELSE "t4"."_item4_0"."type"
    END AS "type",
    CASE
      WHEN (
        (
          "t4"."_item4_0"."other"
        )."reference" > 'Patient/'
      )
      AND (
        (
          "t4"."_item4_0"."other"
        )."reference" < 'Patient0'
      )
      AND (
        (
          CONTAINS(SUBSTRING((
            "t4"."_item4_0"."other"
          )."reference", 9), '/')
          OR CONTAINS((
            "t4"."_item4_0"."other"
          )."reference", '?')
          OR CONTAINS((
            "t4"."_item4_0"."other"
          )."reference", '#')
          OR CONTAINS((
            "t4"."_item4_0"."other"
          )."reference", '|')
        ) = FALSE
      )
      THEN SUBSTRING((
        "t4"."_item4_0"."other"
      )."reference", 9)
      ELSE NULLIF(
        REGEXP_EXTRACT(
          (
            "t4"."_item4_0"."other"
          )."reference",
          '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?Patient/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
          1
        ),
        ''
      )
    END AS "other",
    CASE
      WHEN (
        (
          "t4"."_item4_0"."other"
        )."reference" > 'RelatedPerson/'
      )
      AND (
        (
          "t4"."_item4_0"."other"
        )."reference" < 'RelatedPerson0'
      )
      AND (
        (
          CONTAINS(SUBSTRING((
            "t4"."_item4_0"."other"
          )."reference", 15), '/')
          OR CONTAINS((
            "t4"."_item4_0"."other"
          )."reference", '?')
          OR CONTAINS((
            "t4"."_item4_0"."other"
          )."reference", '#')
          OR CONTAINS((
            "t4"."_item4_0"."other"
          )."reference", '|')
        ) = FALSE
      )
      THEN SUBSTRING((
        "t4"."_item4_0"."other"
      )."reference", 15)
      ELSE NULLIF(
        REGEXP_EXTRACT(
          (
            "t4"."_item4_0"."other"
          )."reference",
          '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?RelatedPerson/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
          1
        ),
        ''
      )
    END AS "related_person"
  FROM (
    SELECT
      "t3"."site",
      "t3"."id",
      "t3"."version_id",
      "t3"."sync",
      "t3"."key",
      "t3"."active",
      UNNEST("t3"."_rows4_0") AS "_item4_0"
    FROM (
      SELECT
        "t2"."site",
        "t2"."id",
        "t2"."version_id",
        "t2"."sync",
        CASE
          WHEN (
            "t2"."_resource"."id" >= '['
          )
          AND (
            (
              "t2"."_resource"."id" < ']'
            ) OR (
              "t2"."_resource"."id" >= '{'
            )
          )
          THEN REPLACE(
            CASE
              WHEN JSON_VALID("t2"."_resource"."id")
              THEN CAST(NULL AS TEXT)
              ELSE "t2"."_resource"."id"
            END,
            CHR(127),
            ''
          )
          ELSE "t2"."_resource"."id"
        END AS "key",
        CASE
          WHEN "t2"."_resource"."active" = 'true'
          THEN TRUE
          WHEN "t2"."_resource"."active" = 'false'
          THEN FALSE
          ELSE NULL
        END AS "active",
        CASE
          WHEN COALESCE(
            ARRAY_LENGTH(
              LIST_FILTER("t2"."_resource"."link", LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL)
            ),
            0
          ) = 0
          THEN CAST([CAST(NULL AS STRUCT("type" TEXT, "other" STRUCT("reference" TEXT)))] AS STRUCT("type" TEXT, "other" STRUCT("reference" TEXT))[])
          ELSE LIST_FILTER("t2"."_resource"."link", LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL)
        END AS "_rows4_0"
      FROM (
        SELECT
          *
        FROM (
          SELECT
            "t0"."site",
            "t0"."id",
            "t0"."version_id",
            "t0"."sync",
            FROM_JSON(
              CASE
                WHEN "t0"."resource" = ''
                THEN ERROR('periop: the text of a resource is empty')
                ELSE CASE
                  WHEN CONTAINS("t0"."resource", ']"') OR CONTAINS("t0"."resource", '}"')
                  THEN REGEXP_REPLACE(
                    "t0"."resource",
                    '([:,\[\s])"([\[{](?:[\]}\[{\s0-9-]|\\"|true|false|null))',
                    '\1"\\u007f\2',
                    'g'
                  )
                  ELSE "t0"."resource"
                END
              END,
              '{"resourceType":"VARCHAR","id":"VARCHAR","active":"VARCHAR","link":[{"type":"VARCHAR","other":{"reference":"VARCHAR"}}]}'
            ) AS "_resource"
          FROM "resources" AS "t0"
        ) AS "t1"
        WHERE
          "t1"."_resource"."resourceType" = 'Patient'
      ) AS "t2"
    ) AS "t3"
  ) AS "t4"
) AS "t5"
