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
        "t2"."_resource"."effectiveDateTime" >= '['
      )
      AND (
        (
          "t2"."_resource"."effectiveDateTime" < ']'
        )
        OR (
          "t2"."_resource"."effectiveDateTime" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."effectiveDateTime")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."effectiveDateTime"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."effectiveDateTime"
    END AS "effective",
    CASE
      WHEN (
        (
          "t2"."_resource"."effectivePeriod"
        )."start" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."effectivePeriod"
          )."start" < ']'
        )
        OR (
          (
            "t2"."_resource"."effectivePeriod"
          )."start" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."effectivePeriod"
          )."start")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."effectivePeriod"
          )."start"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."effectivePeriod"
      )."start"
    END AS "effective_start",
    CASE
      WHEN (
        "t2"."_resource"."effectiveInstant" >= '['
      )
      AND (
        (
          "t2"."_resource"."effectiveInstant" < ']'
        )
        OR (
          "t2"."_resource"."effectiveInstant" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."effectiveInstant")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."effectiveInstant"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."effectiveInstant"
    END AS "effective_instant",
    LIST_EXTRACT(
      LIST_APPLY(
        LIST_FILTER(
          LIST_APPLY(
            CASE
              WHEN COALESCE((
                "t2"."_resource"."effectiveTiming"
              )."event", []) IS NULL
              OR COALESCE((
                "t2"."_resource"."effectiveTiming"
              )."_event", []) IS NULL
              THEN NULL
              ELSE LIST_APPLY(
                RANGE(
                  1,
                  GREATEST(
                    LENGTH(COALESCE((
                      "t2"."_resource"."effectiveTiming"
                    )."event", [])),
                    LENGTH(COALESCE((
                      "t2"."_resource"."effectiveTiming"
                    )."_event", []))
                  ) + 1
                ),
                LAMBDA i : {'f1': COALESCE((
                  "t2"."_resource"."effectiveTiming"
                )."event", [])[i], 'f2': COALESCE((
                  "t2"."_resource"."effectiveTiming"
                )."_event", [])[i]}
              )
            END,
            LAMBDA __ibis_param_value1__ : {'item': (
              __ibis_param_value1__
            )."f1", 'element': (
              __ibis_param_value1__
            )."f2"}
          ),
          LAMBDA __ibis_param_owner0__ : (
            (
              (
                __ibis_param_owner0__
              )."item"
            ) IS NOT NULL
          )
          OR (
            (
              (
                __ibis_param_owner0__
              )."element"
            ) IS NOT NULL
          )
        ),
        LAMBDA __ibis_param_whole0__ : (
          __ibis_param_whole0__
        )."item"
      ),
      1
    ) AS "effective_event",
    CASE
      WHEN (
        "t2"."_resource"."issued" >= '['
      )
      AND (
        (
          "t2"."_resource"."issued" < ']'
        ) OR (
          "t2"."_resource"."issued" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."issued")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."issued"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."issued"
    END AS "issued",
    TRY_CAST((
      "t2"."_resource"."valueQuantity"
    )."value" AS DECIMAL(38, 18)) AS "value_quantity",
    CASE
      WHEN (
        (
          "t2"."_resource"."valueQuantity"
        )."comparator" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."valueQuantity"
          )."comparator" < ']'
        )
        OR (
          (
            "t2"."_resource"."valueQuantity"
          )."comparator" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."valueQuantity"
          )."comparator")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."valueQuantity"
          )."comparator"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."valueQuantity"
      )."comparator"
    END AS "value_comparator",
    REPLACE(
      CASE
        WHEN COALESCE(
          (
            (
              (
                (
                  "t2"."_resource"."valueQuantity"
                )."code"
              ) IS NULL
            )
            AND (
              (
                (
                  "t2"."_resource"."valueQuantity"
                )."_code"
              ) IS NULL
            )
          ) = FALSE,
          FALSE
        )
        THEN (
          "t2"."_resource"."valueQuantity"
        )."code"
        ELSE (
          "t2"."_resource"."valueQuantity"
        )."unit"
      END,
      CHR(127),
      ''
    ) AS "value_unit",
    TRY_CAST((
      (
        "t2"."_resource"."valueRange"
      )."low"
    )."value" AS DECIMAL(38, 18)) AS "value_low",
    TRY_CAST((
      (
        "t2"."_resource"."valueRange"
      )."high"
    )."value" AS DECIMAL(38, 18)) AS "value_high",
    CASE
      WHEN (
        (
          (
            "t2"."_resource"."valueRange"
          )."high"
        )."code" >= '['
      )
      AND (
        (
          (
            (
              "t2"."_resource"."valueRange"
            )."high"
          )."code" < ']'
        )
        OR (
          (
            (
              "t2"."_resource"."valueRange"
            )."high"
          )."code" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            (
              "t2"."_resource"."valueRange"
            )."high"
          )."code")
          THEN CAST(NULL AS TEXT)
          ELSE (
            (
              "t2"."_resource"."valueRange"
            )."high"
          )."code"
        END,
        CHR(127),
        ''
      )
      ELSE (
        (
          "t2"."_resource"."valueRange"
        )."high"
      )."code"
    END AS "value_range_unit",
    TRY_CAST((
      (
        "t2"."_resource"."valueRatio"
      )."numerator"
    )."value" AS DECIMAL(38, 18)) AS "value_numerator",
    TRY_CAST((
      (
        "t2"."_resource"."valueRatio"
      )."denominator"
    )."value" AS DECIMAL(38, 18)) AS "value_denominator",
    CASE
      WHEN REGEXP_MATCHES("t2"."_resource"."valueInteger", '^-?[0-9]+$')
      THEN TRY_CAST("t2"."_resource"."valueInteger" AS BIGINT)
      ELSE NULL
    END AS "value_integer",
    CASE
      WHEN (
        "t2"."_resource"."valueString" >= '['
      )
      AND (
        (
          "t2"."_resource"."valueString" < ']'
        )
        OR (
          "t2"."_resource"."valueString" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."valueString")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."valueString"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."valueString"
    END AS "value_string",
    CASE
      WHEN "t2"."_resource"."valueBoolean" = 'true'
      THEN TRUE
      WHEN "t2"."_resource"."valueBoolean" = 'false'
      THEN FALSE
      ELSE NULL
    END AS "value_boolean",
    LIST_EXTRACT(
      LIST_FILTER(
        LIST_APPLY(
          LIST_FILTER(
            LIST_APPLY(
              "t2"."_resource"."focus",
              LAMBDA __ibis_param_x0__ : (
                __ibis_param_x0__
              )."reference"
            ),
            LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
          ),
          LAMBDA __ibis_param_x0__ : CASE
            WHEN (
              __ibis_param_x0__ > 'Condition/'
            )
            AND (
              __ibis_param_x0__ < 'Condition0'
            )
            AND (
              (
                CONTAINS(SUBSTRING(__ibis_param_x0__, 11), '/')
                OR CONTAINS(__ibis_param_x0__, '?')
                OR CONTAINS(__ibis_param_x0__, '#')
                OR CONTAINS(__ibis_param_x0__, '|')
              ) = FALSE
            )
            THEN SUBSTRING(__ibis_param_x0__, 11)
            ELSE NULLIF(
              REGEXP_EXTRACT(
                __ibis_param_x0__,
                '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?Condition/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
                1
              ),
              ''
            )
          END
        ),
        LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
      ),
      1
    ) AS "focus",
    LIST_EXTRACT(
      LIST_FILTER(
        LIST_APPLY(
          LIST_FILTER(
            LIST_APPLY(
              "t2"."_resource"."focus",
              LAMBDA __ibis_param_x0__ : (
                __ibis_param_x0__
              )."reference"
            ),
            LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
          ),
          LAMBDA __ibis_param_x0__ : CASE
            WHEN (
              __ibis_param_x0__ > 'AdverseEvent/'
            )
            AND (
              __ibis_param_x0__ < 'AdverseEvent0'
            )
            AND (
              (
                CONTAINS(SUBSTRING(__ibis_param_x0__, 14), '/')
                OR CONTAINS(__ibis_param_x0__, '?')
                OR CONTAINS(__ibis_param_x0__, '#')
                OR CONTAINS(__ibis_param_x0__, '|')
              ) = FALSE
            )
            THEN SUBSTRING(__ibis_param_x0__, 14)
            ELSE NULLIF(
              REGEXP_EXTRACT(
                __ibis_param_x0__,
                '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?AdverseEvent/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
                1
              ),
              ''
            )
          END
        ),
        LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
      ),
      1
    ) AS "focus_event",
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","status":"VARCHAR","effectiveDateTime":"VARCHAR","effectivePeriod":{"start":"VARCHAR"},"effectiveInstant":"VARCHAR","effectiveTiming":{"event":["VARCHAR"],"_event":["JSON"]},"issued":"VARCHAR","valueQuantity":{"value":"VARCHAR","_digits":"DECIMAL(38,18)","comparator":"VARCHAR","code":"VARCHAR","_code":"JSON","unit":"VARCHAR"},"valueRange":{"low":{"value":"VARCHAR","_digits":"DECIMAL(38,18)"},"high":{"value":"VARCHAR","_digits":"DECIMAL(38,18)","code":"VARCHAR"}},"valueRatio":{"numerator":{"value":"VARCHAR","_digits":"DECIMAL(38,18)"},"denominator":{"value":"VARCHAR","_digits":"DECIMAL(38,18)"}},"valueInteger":"VARCHAR","valueString":"VARCHAR","valueBoolean":"VARCHAR","focus":[{"reference":"VARCHAR"}],"meta":{"security":[{"code":"VARCHAR"}],"tag":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'Observation'
  ) AS "t2"
) AS "t3"
