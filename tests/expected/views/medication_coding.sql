SELECT
  "t4"."site",
  "t4"."id",
  "t4"."version_id",
  "t4"."sync",
  "t4"."key",
  "t4"."_item4_0"."part" AS "part",
  "t4"."_item4_0"."element" AS "element",
  "t4"."_item4_0"."text" AS "text",
  "t4"."_item4_0"."system" AS "system",
  "t4"."_item4_0"."code" AS "code",
  "t4"."_item4_0"."display" AS "display"
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
      COALESCE(
        FLATTEN(
          LIST_APPLY(
            CASE
              WHEN (
                "t2"."_resource"."code"
              ) IS NULL
              THEN []
              ELSE CAST(["t2"."_resource"."code"] AS STRUCT("text" TEXT, "coding" STRUCT("system" TEXT, "code" TEXT, "display" TEXT)[])[])
            END,
            LAMBDA __ibis_param_row0__ : COALESCE(
              LIST_APPLY(
                CASE
                  WHEN COALESCE(
                    ARRAY_LENGTH(
                      LIST_FILTER(
                        (
                          __ibis_param_row0__
                        )."coding",
                        LAMBDA __ibis_param_x1__ : __ibis_param_x1__ IS NOT NULL
                      )
                    ),
                    0
                  ) = 0
                  THEN CAST([CAST(NULL AS STRUCT("system" TEXT, "code" TEXT, "display" TEXT))] AS STRUCT("system" TEXT, "code" TEXT, "display" TEXT)[])
                  ELSE LIST_FILTER(
                    (
                      __ibis_param_row0__
                    )."coding",
                    LAMBDA __ibis_param_x1__ : __ibis_param_x1__ IS NOT NULL
                  )
                END,
                LAMBDA __ibis_param_row1__ : {'part': 0, 'element': 'medication', 'text': CASE
                  WHEN (
                    (
                      __ibis_param_row0__
                    )."text" >= '['
                  )
                  AND (
                    (
                      (
                        __ibis_param_row0__
                      )."text" < ']'
                    )
                    OR (
                      (
                        __ibis_param_row0__
                      )."text" >= '{'
                    )
                  )
                  THEN REPLACE(
                    CASE
                      WHEN JSON_VALID((
                        __ibis_param_row0__
                      )."text")
                      THEN CAST(NULL AS TEXT)
                      ELSE (
                        __ibis_param_row0__
                      )."text"
                    END,
                    CHR(127),
                    ''
                  )
                  ELSE (
                    __ibis_param_row0__
                  )."text"
                END, 'system': CASE
                  WHEN (
                    (
                      __ibis_param_row1__
                    )."system" >= '['
                  )
                  AND (
                    (
                      (
                        __ibis_param_row1__
                      )."system" < ']'
                    )
                    OR (
                      (
                        __ibis_param_row1__
                      )."system" >= '{'
                    )
                  )
                  THEN REPLACE(
                    CASE
                      WHEN JSON_VALID((
                        __ibis_param_row1__
                      )."system")
                      THEN CAST(NULL AS TEXT)
                      ELSE (
                        __ibis_param_row1__
                      )."system"
                    END,
                    CHR(127),
                    ''
                  )
                  ELSE (
                    __ibis_param_row1__
                  )."system"
                END, 'code': CASE
                  WHEN (
                    (
                      __ibis_param_row1__
                    )."code" >= '['
                  )
                  AND (
                    (
                      (
                        __ibis_param_row1__
                      )."code" < ']'
                    )
                    OR (
                      (
                        __ibis_param_row1__
                      )."code" >= '{'
                    )
                  )
                  THEN REPLACE(
                    CASE
                      WHEN JSON_VALID((
                        __ibis_param_row1__
                      )."code")
                      THEN CAST(NULL AS TEXT)
                      ELSE (
                        __ibis_param_row1__
                      )."code"
                    END,
                    CHR(127),
                    ''
                  )
                  ELSE (
                    __ibis_param_row1__
                  )."code"
                END, 'display': CASE
                  WHEN (
                    (
                      __ibis_param_row1__
                    )."display" >= '['
                  )
                  AND (
                    (
                      (
                        __ibis_param_row1__
                      )."display" < ']'
                    )
                    OR (
                      (
                        __ibis_param_row1__
                      )."display" >= '{'
                    )
                  )
                  THEN REPLACE(
                    CASE
                      WHEN JSON_VALID((
                        __ibis_param_row1__
                      )."display")
                      THEN CAST(NULL AS TEXT)
                      ELSE (
                        __ibis_param_row1__
                      )."display"
                    END,
                    CHR(127),
                    ''
                  )
                  ELSE (
                    __ibis_param_row1__
                  )."display"
                END}
              ),
              []
            )
          )
        ),
        []
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
            '{"resourceType":"VARCHAR","id":"VARCHAR","code":{"text":"VARCHAR","coding":[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR"}]}}'
          ) AS "_resource"
        FROM "resources" AS "t0"
      ) AS "t1"
      WHERE
        "t1"."_resource"."resourceType" = 'Medication'
    ) AS "t2"
  ) AS "t3"
) AS "t4"
