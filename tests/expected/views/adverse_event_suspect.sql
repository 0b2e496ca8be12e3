SELECT
  "t4"."site",
  "t4"."id",
  "t4"."version_id",
  "t4"."sync",
  "t4"."key",
  TRY_CAST(CAST(CAST(CAST("t4"."_item4_0"."index" AS DECIMAL(38, 0)) + CAST(1 AS DECIMAL(38, 0)) AS DECIMAL(38, 0)) AS TEXT) AS BIGINT) AS "part",
  CASE
    WHEN (
      (
        (
          "t4"."_item4_0"."item"
        )."instance"
      )."reference" > 'MedicationAdministration/'
    )
    AND (
      (
        (
          "t4"."_item4_0"."item"
        )."instance"
      )."reference" < 'MedicationAdministration0'
    )
    AND (
      (
        CONTAINS(SUBSTRING((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", 26), '/')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '?')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '#')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '|')
      ) = FALSE
    )
    THEN SUBSTRING((
      (
        "t4"."_item4_0"."item"
      )."instance"
    )."reference", 26)
    ELSE NULLIF(
      REGEXP_EXTRACT(
        (
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference",
        '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?MedicationAdministration/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
        1
      ),
      ''
    )
  END AS "administration",
  CASE
    WHEN (
      (
        (
          "t4"."_item4_0"."item"
        )."instance"
      )."reference" > 'MedicationStatement/'
    )
    AND (
      (
        (
          "t4"."_item4_0"."item"
        )."instance"
      )."reference" < 'MedicationStatement0'
    )
    AND (
      (
        CONTAINS(SUBSTRING((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", 21), '/')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '?')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '#')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '|')
      ) = FALSE
    )
    THEN SUBSTRING((
      (
        "t4"."_item4_0"."item"
      )."instance"
    )."reference", 21)
    ELSE NULLIF(
      REGEXP_EXTRACT(
        (
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference",
        '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?MedicationStatement/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
        1
      ),
      ''
    )
  END AS "statement",
  CASE
    WHEN (
      (
        (
          "t4"."_item4_0"."item"
        )."instance"
      )."reference" > 'Medication/'
    )
    AND (
      (
        (
          "t4"."_item4_0"."item"
        )."instance"
      )."reference" < 'Medication0'
    )
    AND (
      (
        CONTAINS(SUBSTRING((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", 12), '/')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '?')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '#')
        OR CONTAINS((
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference", '|')
      ) = FALSE
    )
    THEN SUBSTRING((
      (
        "t4"."_item4_0"."item"
      )."instance"
    )."reference", 12)
    ELSE NULLIF(
      REGEXP_EXTRACT(
        (
          (
            "t4"."_item4_0"."item"
          )."instance"
        )."reference",
        '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?Medication/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
        1
      ),
      ''
    )
  END AS "medication",
  (
    (
      (
        "t4"."_item4_0"."item"
      )."instance"
    ) IS NULL
  ) = FALSE AS "named"
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
      LIST_APPLY(
        LIST_FILTER(
          "t2"."_resource"."suspectEntity",
          LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
        ),
        LAMBDA __ibis_param_x1_item__, __ibis_param_x1_index__ : {'item': __ibis_param_x1_item__, 'index': __ibis_param_x1_index__ - 1}
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
            '{"resourceType":"VARCHAR","id":"VARCHAR","suspectEntity":[{"instance":{"reference":"VARCHAR"}}]}'
          ) AS "_resource"
        FROM "resources" AS "t0"
      ) AS "t1"
      WHERE
        "t1"."_resource"."resourceType" = 'AdverseEvent'
    ) AS "t2"
  ) AS "t3"
) AS "t4"
