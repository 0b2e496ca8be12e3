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
      AND JSON_VALID("t2"."_resource"."id")
      THEN CAST(NULL AS TEXT)
      ELSE "t2"."_resource"."id"
    END AS "key",
    CASE
      WHEN (
        (
          "t2"."_resource"."subject"
        )."reference" > 'Patient/'
      )
      AND (
        (
          "t2"."_resource"."subject"
        )."reference" < 'Patient0'
      )
      AND (
        (
          CONTAINS(SUBSTRING((
            "t2"."_resource"."subject"
          )."reference", 9), '/')
          OR CONTAINS((
            "t2"."_resource"."subject"
          )."reference", '?')
          OR CONTAINS((
            "t2"."_resource"."subject"
          )."reference", '#')
          OR CONTAINS((
            "t2"."_resource"."subject"
          )."reference", '|')
        ) = FALSE
      )
      THEN SUBSTRING((
        "t2"."_resource"."subject"
      )."reference", 9)
      ELSE NULLIF(
        REGEXP_EXTRACT(
          (
            "t2"."_resource"."subject"
          )."reference",
          '^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?Patient/([^/?#|]+)(?:/_history/[^/?#|]+)?$',
          1
        ),
        ''
      )
    END AS "patient",
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
      AND JSON_VALID("t2"."_resource"."status")
      THEN CAST(NULL AS TEXT)
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
      AND JSON_VALID("t2"."_resource"."effectiveDateTime")
      THEN CAST(NULL AS TEXT)
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
      AND JSON_VALID((
        "t2"."_resource"."effectivePeriod"
      )."start")
      THEN CAST(NULL AS TEXT)
      ELSE (
        "t2"."_resource"."effectivePeriod"
      )."start"
    END AS "start",
    CASE
      WHEN (
        (
          "t2"."_resource"."effectivePeriod"
        )."end" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."effectivePeriod"
          )."end" < ']'
        )
        OR (
          (
            "t2"."_resource"."effectivePeriod"
          )."end" >= '{'
        )
      )
      AND JSON_VALID((
        "t2"."_resource"."effectivePeriod"
      )."end")
      THEN CAST(NULL AS TEXT)
      ELSE (
        "t2"."_resource"."effectivePeriod"
      )."end"
    END AS "end",
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
    ) = FALSE AS "test_data"
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
            ELSE "t0"."resource"
          END,
          '{"resourceType":"VARCHAR","id":"VARCHAR","subject":{"reference":"VARCHAR"},"status":"VARCHAR","effectiveDateTime":"VARCHAR","effectivePeriod":{"start":"VARCHAR","end":"VARCHAR"},"meta":{"security":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'MedicationAdministration'
  ) AS "t2"
) AS "t3"
