SELECT
  *
FROM (
  SELECT
    "t4"."site",
    "t4"."id",
    "t4"."version_id",
    "t4"."sync",
    "t4"."key",
    TRY_CAST(CAST(CAST(CAST("t4"."_item4_0"."index" AS DECIMAL(38, 0)) + CAST(1 AS DECIMAL(38, 0)) AS DECIMAL(38, 0)) AS TEXT) AS BIGINT) AS "part",
    TRY_CAST((
      (
        "t4"."_item4_0"."item"
      )."valueQuantity"
    )."value" AS DECIMAL(38, 18)) AS "value_quantity",
    CASE
      WHEN (
        (
          (
            "t4"."_item4_0"."item"
          )."valueQuantity"
        )."comparator" >= '['
      )
      AND (
        (
          (
            (
              "t4"."_item4_0"."item"
            )."valueQuantity"
          )."comparator" < ']'
        )
        OR (
          (
            (
              "t4"."_item4_0"."item"
            )."valueQuantity"
          )."comparator" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            (
              "t4"."_item4_0"."item"
            )."valueQuantity"
          )."comparator")
          THEN CAST(NULL AS TEXT)
          ELSE (
            (
              "t4"."_item4_0"."item"
            )."valueQuantity"
          )."comparator"
        END,
        CHR(127),
        ''
      )
      ELSE (
        (
          "t4"."_item4_0"."item"
        )."valueQuantity"
      )."comparator"
    END AS "value_comparator",
    REPLACE(
      CASE
        WHEN COALESCE(
          (
            (
              (
                (
                  (
                    "t4"."_item4_0"."item"
                  )."valueQuantity"
                )."code"
              ) IS NULL
            )
            AND (
              (
                (
                  (
                    "t4"."_item4_0"."item"
                  )."valueQuantity"
                )."_code"
              ) IS NULL
            )
          ) = FALSE,
          FALSE
        )
        THEN (
          (
            "t4"."_item4_0"."item"
          )."valueQuantity"
        )."code"
        ELSE (
          (
            "t4"."_item4_0"."item"
          )."valueQuantity"
        )."unit"
      END,
      CHR(127),
      ''
    ) AS "value_unit",
    TRY_CAST((
      (
        (
          "t4"."_item4_0"."item"
        )."valueRange"
      )."low"
    )."value" AS DECIMAL(38, 18)) AS "value_low",
    TRY_CAST((
      (
        (
          "t4"."_item4_0"."item"
        )."valueRange"
      )."high"
    )."value" AS DECIMAL(38, 18)) AS "value_high",
    CASE
      WHEN (
        (
          (
            (
              "t4"."_item4_0"."item"
            )."valueRange"
          )."high"
        )."code" >= '['
      )
      AND (
        (
          (
            (
              (
                "t4"."_item4_0"."item"
              )."valueRange"
            )."high"
          )."code" < ']'
        )
        OR (
          (
            (
              (
                "t4"."_item4_0"."item"
              )."valueRange"
            )."high"
          )."code" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            (
              (
                "t4"."_item4_0"."item"
              )."valueRange"
            )."high"
          )."code")
          THEN CAST(NULL AS TEXT)
          ELSE (
            (
              (
                "t4"."_item4_0"."item"
              )."valueRange"
            )."high"
          )."code"
        END,
        CHR(127),
        ''
      )
      ELSE (
        (
          (
            "t4"."_item4_0"."item"
          )."valueRange"
        )."high"
      )."code"
    END AS "value_range_unit",
    TRY_CAST((
      (
        (
          "t4"."_item4_0"."item"
        )."valueRatio"
      )."numerator"
    )."value" AS DECIMAL(38, 18)) AS "value_numerator",
    TRY_CAST((
      (
        (
          "t4"."_item4_0"."item"
        )."valueRatio"
      )."denominator"
    )."value" AS DECIMAL(38, 18)) AS "value_denominator",
    CASE
      WHEN REGEXP_MATCHES((
        "t4"."_item4_0"."item"
      )."valueInteger", '^-?[0-9]+$')
      THEN TRY_CAST((
        "t4"."_item4_0"."item"
      )."valueInteger" AS BIGINT)
      ELSE NULL
    END AS "value_integer",
    CASE
      WHEN (
        (
          "t4"."_item4_0"."item"
        )."valueString" >= '['
      )
      AND (
        (
          (
            "t4"."_item4_0"."item"
          )."valueString" < ']'
        )
        OR (
          (
            "t4"."_item4_0"."item"
          )."valueString" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t4"."_item4_0"."item"
          )."valueString")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t4"."_item4_0"."item"
          )."valueString"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t4"."_item4_0"."item"
      )."valueString"
    END AS "value_string",
    CASE
      WHEN (
        "t4"."_item4_0"."item"
      )."valueBoolean" = 'true'
      THEN TRUE
      WHEN (
        "t4"."_item4_0"."item"
      )."valueBoolean" = 'false'
      THEN FALSE
      ELSE NULL
    END AS "value_boolean"
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
            "t2"."_resource"."component",
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
              '{"resourceType":"VARCHAR","id":"VARCHAR","component":[{"valueQuantity":{"value":"VARCHAR","_digits":"DECIMAL(38,18)","comparator":"VARCHAR","code":"VARCHAR","_code":"JSON","unit":"VARCHAR"},"valueRange":{"low":{"value":"VARCHAR","_digits":"DECIMAL(38,18)"},"high":{"value":"VARCHAR","_digits":"DECIMAL(38,18)","code":"VARCHAR"}},"valueRatio":{"numerator":{"value":"VARCHAR","_digits":"DECIMAL(38,18)"},"denominator":{"value":"VARCHAR","_digits":"DECIMAL(38,18)"}},"valueInteger":"VARCHAR","valueString":"VARCHAR","valueBoolean":"VARCHAR"}]}'
            ) AS "_resource"
          FROM "resources" AS "t0"
        ) AS "t1"
        WHERE
          "t1"."_resource"."resourceType" = 'Observation'
      ) AS "t2"
    ) AS "t3"
  ) AS "t4"
) AS "t5"
