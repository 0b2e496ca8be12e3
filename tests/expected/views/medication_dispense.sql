SELECT
  *
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
      WHEN (
        "t2"."_resource"."status" >= '['
      )
      AND (
        (
          "t2"."_resource"."status" < ']'
        ) OR (
          "t2"."_resource"."status" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."status")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."status"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."status"
    END AS "status",
    CASE
      WHEN (
        "t2"."_resource"."whenHandedOver" >= '['
      )
      AND (
        (
          "t2"."_resource"."whenHandedOver" < ']'
        )
        OR (
          "t2"."_resource"."whenHandedOver" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."whenHandedOver")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."whenHandedOver"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."whenHandedOver"
    END AS "handed_over",
    CASE
      WHEN (
        "t2"."_resource"."whenPrepared" >= '['
      )
      AND (
        (
          "t2"."_resource"."whenPrepared" < ']'
        )
        OR (
          "t2"."_resource"."whenPrepared" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."whenPrepared")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."whenPrepared"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."whenPrepared"
    END AS "prepared",
    TRY_CAST((
      "t2"."_resource"."daysSupply"
    )."value" AS DECIMAL(38, 18)) AS "days_supply",
    CASE
      WHEN (
        (
          "t2"."_resource"."daysSupply"
        )."code" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."daysSupply"
          )."code" < ']'
        )
        OR (
          (
            "t2"."_resource"."daysSupply"
          )."code" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."daysSupply"
          )."code")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."daysSupply"
          )."code"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."daysSupply"
      )."code"
    END AS "days_supply_unit",
    TRY_CAST((
      "t2"."_resource"."quantity"
    )."value" AS DECIMAL(38, 18)) AS "quantity",
    CASE
      WHEN (
        (
          "t2"."_resource"."quantity"
        )."code" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."quantity"
          )."code" < ']'
        )
        OR (
          (
            "t2"."_resource"."quantity"
          )."code" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."quantity"
          )."code")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."quantity"
          )."code"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."quantity"
      )."code"
    END AS "quantity_unit",
    CASE
      WHEN (
        (
          "t2"."_resource"."medicationReference"
        )."reference" > 'Medication/'
      )
      AND (
        (
          "t2"."_resource"."medicationReference"
        )."reference" < 'Medication0'
      )
      AND (
        (
          CONTAINS(SUBSTRING((
            "t2"."_resource"."medicationReference"
          )."reference", 12), '/')
          OR CONTAINS((
            "t2"."_resource"."medicationReference"
          )."reference", '?')
          OR CONTAINS((
            "t2"."_resource"."medicationReference"
          )."reference", '#')
          OR CONTAINS((
            "t2"."_resource"."medicationReference"
          )."reference", '|')
        ) = FALSE
      )
      THEN SUBSTRING((
        "t2"."_resource"."medicationReference"
      )."reference", 12)
      ELSE NULLIF(
        REGEXP_EXTRACT(
          (
            "t2"."_resource"."medicationReference"
          )."reference",
          '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?Medication/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
          1
        ),
        ''
      )
    END AS "medication",
    (
      (
        COALESCE(
          ARRAY_LENGTH(
            LIST_FILTER(
              LIST_FILTER(
                (
                  "t2"."_resource"."meta"
                )."security",
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
              LAMBDA __ibis_param_x1__ : (
                __ibis_param_x1__
              )."code" = 'HTEST'
            )
          ),
          0
        ) = 0
      ) = FALSE
    )
    OR (
      (
        COALESCE(
          ARRAY_LENGTH(
            LIST_FILTER(
              LIST_FILTER(
                (
                  "t2"."_resource"."meta"
                )."tag",
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
              LAMBDA __ibis_param_x1__ : (
                __ibis_param_x1__
              )."code" = 'HTEST'
            )
          ),
          0
        ) = 0
      ) = FALSE
    ) AS "test_data"
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","status":"VARCHAR","whenHandedOver":"VARCHAR","whenPrepared":"VARCHAR","daysSupply":{"value":"VARCHAR","_digits":"DECIMAL(38,18)","code":"VARCHAR"},"quantity":{"value":"VARCHAR","_digits":"DECIMAL(38,18)","code":"VARCHAR"},"medicationReference":{"reference":"VARCHAR"},"meta":{"security":[{"code":"VARCHAR"}],"tag":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'MedicationDispense'
  ) AS "t2"
) AS "t3"
