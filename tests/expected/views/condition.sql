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
    REPLACE(
      LIST_EXTRACT(
        LIST_APPLY(
          LIST_FILTER(
            LIST_FILTER(
              LIST_FILTER(
                (
                  "t2"."_resource"."clinicalStatus"
                )."coding",
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
              LAMBDA __ibis_param_x1__ : (
                __ibis_param_x1__
              )."system" = 'http://terminology.hl7.org/CodeSystem/condition-clinical'
            ),
            LAMBDA __ibis_param_owner0__ : (
              (
                (
                  __ibis_param_owner0__
                )."code"
              ) IS NOT NULL
            )
            OR (
              (
                (
                  __ibis_param_owner0__
                )."_code"
              ) IS NOT NULL
            )
          ),
          LAMBDA __ibis_param_whole0__ : (
            __ibis_param_whole0__
          )."code"
        ),
        1
      ),
      CHR(127),
      ''
    ) AS "clinical_status",
    REPLACE(
      LIST_EXTRACT(
        LIST_APPLY(
          LIST_FILTER(
            LIST_FILTER(
              LIST_FILTER(
                (
                  "t2"."_resource"."verificationStatus"
                )."coding",
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
              LAMBDA __ibis_param_x1__ : (
                __ibis_param_x1__
              )."system" = 'http://terminology.hl7.org/CodeSystem/condition-ver-status'
            ),
            LAMBDA __ibis_param_owner0__ : (
              (
                (
                  __ibis_param_owner0__
                )."code"
              ) IS NOT NULL
            )
            OR (
              (
                (
                  __ibis_param_owner0__
                )."_code"
              ) IS NOT NULL
            )
          ),
          LAMBDA __ibis_param_whole0__ : (
            __ibis_param_whole0__
          )."code"
        ),
        1
      ),
      CHR(127),
      ''
    ) AS "verification_status",
    CASE
      WHEN (
        "t2"."_resource"."onsetDateTime" >= '['
      )
      AND (
        (
          "t2"."_resource"."onsetDateTime" < ']'
        )
        OR (
          "t2"."_resource"."onsetDateTime" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."onsetDateTime")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."onsetDateTime"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."onsetDateTime"
    END AS "onset",
    CASE
      WHEN (
        (
          "t2"."_resource"."onsetPeriod"
        )."start" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."onsetPeriod"
          )."start" < ']'
        )
        OR (
          (
            "t2"."_resource"."onsetPeriod"
          )."start" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."onsetPeriod"
          )."start")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."onsetPeriod"
          )."start"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."onsetPeriod"
      )."start"
    END AS "onset_start",
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
      LIST_FILTER(
        LIST_APPLY(
          LIST_FILTER(
            LIST_APPLY(
              LIST_APPLY(
                LIST_FILTER(
                  LIST_FILTER(
                    "t2"."_resource"."extension",
                    LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
                  ),
                  LAMBDA __ibis_param_x1__ : (
                    (
                      __ibis_param_x1__
                    )."url" = 'http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-related-primary-cancer-condition'
                  )
                  OR (
                    (
                      __ibis_param_x1__
                    )."url" = 'http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-related-condition'
                  )
                  OR (
                    (
                      __ibis_param_x1__
                    )."url" = 'http://hl7.org/fhir/StructureDefinition/condition-related'
                  )
                  OR (
                    (
                      __ibis_param_x1__
                    )."url" = 'http://hl7.org/fhir/StructureDefinition/condition-dueTo'
                  )
                ),
                LAMBDA __ibis_param_x0__ : (
                  __ibis_param_x0__
                )."valueReference"
              ),
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
    ) AS "related_primary",
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","clinicalStatus":{"coding":[{"system":"VARCHAR","code":"VARCHAR","_code":"JSON"}]},"verificationStatus":{"coding":[{"system":"VARCHAR","code":"VARCHAR","_code":"JSON"}]},"onsetDateTime":"VARCHAR","onsetPeriod":{"start":"VARCHAR"},"recordedDate":"VARCHAR","extension":[{"url":"VARCHAR","valueReference":{"reference":"VARCHAR"}}],"meta":{"security":[{"code":"VARCHAR"}],"tag":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'Condition'
  ) AS "t2"
) AS "t3"
