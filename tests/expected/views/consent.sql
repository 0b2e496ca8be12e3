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
        "t2"."_resource"."dateTime" >= '['
      )
      AND (
        (
          "t2"."_resource"."dateTime" < ']'
        )
        OR (
          "t2"."_resource"."dateTime" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."dateTime")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."dateTime"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."dateTime"
    END AS "date",
    CASE
      WHEN (
        (
          "t2"."_resource"."provision"
        )."type" >= '['
      )
      AND (
        (
          (
            "t2"."_resource"."provision"
          )."type" < ']'
        )
        OR (
          (
            "t2"."_resource"."provision"
          )."type" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            "t2"."_resource"."provision"
          )."type")
          THEN CAST(NULL AS TEXT)
          ELSE (
            "t2"."_resource"."provision"
          )."type"
        END,
        CHR(127),
        ''
      )
      ELSE (
        "t2"."_resource"."provision"
      )."type"
    END AS "type",
    CASE
      WHEN (
        (
          (
            "t2"."_resource"."provision"
          )."period"
        )."start" >= '['
      )
      AND (
        (
          (
            (
              "t2"."_resource"."provision"
            )."period"
          )."start" < ']'
        )
        OR (
          (
            (
              "t2"."_resource"."provision"
            )."period"
          )."start" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            (
              "t2"."_resource"."provision"
            )."period"
          )."start")
          THEN CAST(NULL AS TEXT)
          ELSE (
            (
              "t2"."_resource"."provision"
            )."period"
          )."start"
        END,
        CHR(127),
        ''
      )
      ELSE (
        (
          "t2"."_resource"."provision"
        )."period"
      )."start"
    END AS "start",
    CASE
      WHEN (
        (
          (
            "t2"."_resource"."provision"
          )."period"
        )."end" >= '['
      )
      AND (
        (
          (
            (
              "t2"."_resource"."provision"
            )."period"
          )."end" < ']'
        )
        OR (
          (
            (
              "t2"."_resource"."provision"
            )."period"
          )."end" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID((
            (
              "t2"."_resource"."provision"
            )."period"
          )."end")
          THEN CAST(NULL AS TEXT)
          ELSE (
            (
              "t2"."_resource"."provision"
            )."period"
          )."end"
        END,
        CHR(127),
        ''
      )
      ELSE (
        (
          "t2"."_resource"."provision"
        )."period"
      )."end"
    END AS "end",
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","status":"VARCHAR","dateTime":"VARCHAR","provision":{"type":"VARCHAR","period":{"start":"VARCHAR","end":"VARCHAR"}},"meta":{"security":[{"code":"VARCHAR"}],"tag":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'Consent'
  ) AS "t2"
) AS "t3"
