SELECT
  *
FROM (
  SELECT
    "t4"."site",
    "t4"."id",
    "t4"."version_id",
    "t4"."sync",
    "t4"."key",
    CASE
      WHEN (
        "t4"."_item4_0"."system" >= '['
      )
      AND (
        (
          "t4"."_item4_0"."system" < ']'
        ) OR (
          "t4"."_item4_0"."system" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t4"."_item4_0"."system")
          THEN CAST(NULL AS TEXT)
          ELSE "t4"."_item4_0"."system"
        END,
        CHR(127),
        ''
      )
      ELSE "t4"."_item4_0"."system"
    END AS "system",
    CASE
      WHEN (
        "t4"."_item4_0"."value" >= '['
      )
      AND (
        (
          "t4"."_item4_0"."value" < ']'
        ) OR (
          "t4"."_item4_0"."value" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t4"."_item4_0"."value")
          THEN CAST(NULL AS TEXT)
          ELSE "t4"."_item4_0"."value"
        END,
        CHR(127),
        ''
      )
      ELSE "t4"."_item4_0"."value"
    END AS "value"
  FROM (
    SELECT
      "t3"."site",
      "t3"."id",
      "t3"."version_id",
      "t3"."sync",
      "t3"."key",
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
        LIST_FILTER(
          "t2"."_resource"."identifier",
          LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
        ) AS "_rows4_0"
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
              '{"resourceType":"VARCHAR","id":"VARCHAR","identifier":[{"system":"VARCHAR","value":"VARCHAR"}]}'
            ) AS "_resource"
          FROM "resources" AS "t0"
        ) AS "t1"
        WHERE
          "t1"."_resource"."resourceType" = 'Patient'
      ) AS "t2"
    ) AS "t3"
  ) AS "t4"
) AS "t5"
