SELECT
  "t1"."site",
  "t1"."id",
  "t1"."version_id",
  "t1"."sync",
  "t1"."_resource"."id" AS "key",
  CASE
    WHEN STARTS_WITH((
      "t1"."_resource"."subject"
    )."reference", 'Patient/')
    AND (
      (
        CONTAINS(
          SUBSTRING(
            (
              "t1"."_resource"."subject"
            )."reference",
            CASE
              WHEN (
                8 + 1
              ) >= 1
              THEN 8 + 1
              ELSE 8 + 1 + LENGTH((
                "t1"."_resource"."subject"
              )."reference")
            END
          ),
          '/'
        )
        OR CONTAINS((
          "t1"."_resource"."subject"
        )."reference", '?')
        OR CONTAINS((
          "t1"."_resource"."subject"
        )."reference", '#')
        OR CONTAINS((
          "t1"."_resource"."subject"
        )."reference", '|')
      ) = FALSE
    )
    THEN NULLIF(
      SUBSTRING(
        (
          "t1"."_resource"."subject"
        )."reference",
        CASE
          WHEN (
            8 + 1
          ) >= 1
          THEN 8 + 1
          ELSE 8 + 1 + LENGTH((
            "t1"."_resource"."subject"
          )."reference")
        END
      ),
      ''
    )
    ELSE NULLIF(
      REGEXP_EXTRACT(
        (
          "t1"."_resource"."subject"
        )."reference",
        '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?Patient/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
        1
      ),
      ''
    )
  END AS "patient",
  "t1"."_resource"."status" AS "status",
  "t1"."_resource"."performedDateTime" AS "performed",
  (
    "t1"."_resource"."performedPeriod"
  )."start" AS "start",
  (
    COALESCE(
      ARRAY_LENGTH(
        LIST_FILTER(
          LIST_FILTER(
            (
              "t1"."_resource"."meta"
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
  ) = FALSE AS "test_data"
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
        ELSE "t0"."resource"
      END,
      '{"resourceType":"VARCHAR","id":"VARCHAR","subject":{"reference":"VARCHAR"},"status":"VARCHAR","performedDateTime":"VARCHAR","performedPeriod":{"start":"VARCHAR"},"meta":{"security":[{"code":"VARCHAR"}]}}'
    ) AS "_resource"
  FROM "resources" AS "t0"
) AS "t1"
WHERE
  "t1"."_resource"."resourceType" = 'Procedure'
