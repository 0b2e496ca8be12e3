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
        "t2"."_resource"."actuality" >= '['
      )
      AND (
        (
          "t2"."_resource"."actuality" < ']'
        )
        OR (
          "t2"."_resource"."actuality" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."actuality")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."actuality"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."actuality"
    END AS "actuality",
    CASE
      WHEN (
        (
          "t2"."_resource"."event"
        )."text" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."event"
          )."text" < ']'
        )
        OR (
          (
            "t2"."_resource"."event"
          )."text" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."event"
          )."text")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."event"
          )."text"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."event"
      )."text"
    END AS "term",
    CASE
      WHEN (
        "t2"."_resource"."date" >= '['
      )
      AND (
        (
          "t2"."_resource"."date" < ']'
        ) OR (
          "t2"."_resource"."date" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."date")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."date"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."date"
    END AS "date",
    CASE
      WHEN (
        "t2"."_resource"."detected" >= '['
      )
      AND (
        (
          "t2"."_resource"."detected" < ']'
        )
        OR (
          "t2"."_resource"."detected" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."detected")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."detected"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."detected"
    END AS "detected",
    CASE
      WHEN (
        "t2"."_resource"."recordedDate" >= '['
      )
      AND (
        (
          "t2"."_resource"."recordedDate" < ']'
        )
        OR (
          "t2"."_resource"."recordedDate" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."recordedDate")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."recordedDate"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."recordedDate"
    END AS "recorded",
    LIST_EXTRACT(
      LIST_APPLY(
        LIST_FILTER(
          LIST_FILTER(
            LIST_FILTER(
              "t2"."_resource"."extension",
              LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
            ),
            LAMBDA __ibis_param_x1__ : (
              (
                __ibis_param_x1__
              )."url" = 'http://hl7.org/fhir/us/ctcae/StructureDefinition/ctcae-grade'
            )
            OR (
              (
                __ibis_param_x1__
              )."url" = 'http://hl7.org/fhir/us/mcode/StructureDefinition/ctcae-grade'
            )
            OR (
              (
                __ibis_param_x1__
              )."url" = 'http://hl7.org/fhir/uv/ae-research-ig/StructureDefinition/ae-grade'
            )
          ),
          LAMBDA __ibis_param_owner0__ : (
            COALESCE(
              CASE
                WHEN REGEXP_MATCHES((
                  __ibis_param_owner0__
                )."valueInteger", '^-?[0-9]+$')
                THEN TRY_CAST((
                  __ibis_param_owner0__
                )."valueInteger" AS BIGINT)
                ELSE NULL
              END,
              CASE
                WHEN REGEXP_MATCHES((
                  __ibis_param_owner0__
                )."valuePositiveInt", '^-?[0-9]+$')
                THEN TRY_CAST((
                  __ibis_param_owner0__
                )."valuePositiveInt" AS BIGINT)
                ELSE NULL
              END,
              CASE
                WHEN REGEXP_MATCHES((
                  __ibis_param_owner0__
                )."valueUnsignedInt", '^-?[0-9]+$')
                THEN TRY_CAST((
                  __ibis_param_owner0__
                )."valueUnsignedInt" AS BIGINT)
                ELSE NULL
              END
            ) IS NOT NULL
          )
          OR (
            COALESCE(
              (
                __ibis_param_owner0__
              )."_valueInteger",
              (
                __ibis_param_owner0__
              )."_valuePositiveInt",
              (
                __ibis_param_owner0__
              )."_valueUnsignedInt"
            ) IS NOT NULL
          )
        ),
        LAMBDA __ibis_param_whole0__ : COALESCE(
          CASE
            WHEN REGEXP_MATCHES((
              __ibis_param_whole0__
            )."valueInteger", '^-?[0-9]+$')
            THEN TRY_CAST((
              __ibis_param_whole0__
            )."valueInteger" AS BIGINT)
            ELSE NULL
          END,
          CASE
            WHEN REGEXP_MATCHES((
              __ibis_param_whole0__
            )."valuePositiveInt", '^-?[0-9]+$')
            THEN TRY_CAST((
              __ibis_param_whole0__
            )."valuePositiveInt" AS BIGINT)
            ELSE NULL
          END,
          CASE
            WHEN REGEXP_MATCHES((
              __ibis_param_whole0__
            )."valueUnsignedInt", '^-?[0-9]+$')
            THEN TRY_CAST((
              __ibis_param_whole0__
            )."valueUnsignedInt" AS BIGINT)
            ELSE NULL
          END
        )
      ),
      1
    ) AS "grade",
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","actuality":"VARCHAR","event":{"text":"VARCHAR"},"date":"VARCHAR","detected":"VARCHAR","recordedDate":"VARCHAR","extension":[{"url":"VARCHAR","valueInteger":"VARCHAR","valuePositiveInt":"VARCHAR","valueUnsignedInt":"VARCHAR","_valueInteger":"JSON","_valuePositiveInt":"JSON","_valueUnsignedInt":"JSON"}],"meta":{"security":[{"code":"VARCHAR"}],"tag":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'AdverseEvent'
  ) AS "t2"
) AS "t3"
