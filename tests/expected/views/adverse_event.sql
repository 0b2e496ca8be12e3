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
      AND JSON_VALID("t2"."_resource"."actuality")
      THEN CAST(NULL AS TEXT)
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
      AND JSON_VALID((
        "t2"."_resource"."event"
      )."text")
      THEN CAST(NULL AS TEXT)
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
      AND JSON_VALID("t2"."_resource"."date")
      THEN CAST(NULL AS TEXT)
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
      AND JSON_VALID("t2"."_resource"."detected")
      THEN CAST(NULL AS TEXT)
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
      AND JSON_VALID("t2"."_resource"."recordedDate")
      THEN CAST(NULL AS TEXT)
      ELSE "t2"."_resource"."recordedDate"
    END AS "recorded",
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","subject":{"reference":"VARCHAR"},"actuality":"VARCHAR","event":{"text":"VARCHAR"},"date":"VARCHAR","detected":"VARCHAR","recordedDate":"VARCHAR","meta":{"security":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'AdverseEvent'
  ) AS "t2"
) AS "t3"
