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
        "t2"."_resource"."performedDateTime" >= '['
      )
      AND (
        (
          "t2"."_resource"."performedDateTime" < ']'
        )
        OR (
          "t2"."_resource"."performedDateTime" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."performedDateTime")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."performedDateTime"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."performedDateTime"
    END AS "performed",
    CASE
      WHEN (
        (
          "t2"."_resource"."performedPeriod"
        )."start" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."performedPeriod"
          )."start" < ']'
        )
        OR (
          (
            "t2"."_resource"."performedPeriod"
          )."start" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."performedPeriod"
          )."start")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."performedPeriod"
          )."start"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."performedPeriod"
      )."start"
    END AS "start",
    CASE
      WHEN (
        (
          "t2"."_resource"."performedPeriod"
        )."end" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."performedPeriod"
          )."end" < ']'
        )
        OR (
          (
            "t2"."_resource"."performedPeriod"
          )."end" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."performedPeriod"
          )."end")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."performedPeriod"
          )."end"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."performedPeriod"
      )."end"
    END AS "end",
    LIST_EXTRACT(
      LIST_FILTER(
        LIST_APPLY(
          LIST_FILTER(
            LIST_APPLY(
              "t2"."_resource"."reasonReference",
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
    ) AS "reason",
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","status":"VARCHAR","performedDateTime":"VARCHAR","performedPeriod":{"start":"VARCHAR","end":"VARCHAR"},"reasonReference":[{"reference":"VARCHAR"}],"meta":{"security":[{"code":"VARCHAR"}],"tag":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'Procedure'
  ) AS "t2"
) AS "t3"
