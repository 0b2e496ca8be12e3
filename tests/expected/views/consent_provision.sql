SELECT
  "t4"."site",
  "t4"."id",
  "t4"."version_id",
  "t4"."sync",
  "t4"."key",
  "t4"."_item4_0"."type" AS "type",
  "t4"."_item4_0"."start" AS "start",
  "t4"."_item4_0"."end" AS "end",
  "t4"."_item4_0"."system" AS "system",
  "t4"."_item4_0"."code" AS "code"
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
      LIST_CONCAT(
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              CASE
                WHEN (
                  "t2"."_resource"."provision"
                ) IS NULL
                THEN []
                ELSE CAST(["t2"."_resource"."provision"] AS STRUCT(
                  "type" TEXT,
                  "period" STRUCT("start" TEXT, "end" TEXT),
                  "code" STRUCT("coding" STRUCT("system" TEXT, "code" TEXT)[])[],
                  "provision" STRUCT(
                    "type" TEXT,
                    "period" STRUCT("start" TEXT, "end" TEXT),
                    "code" STRUCT("coding" STRUCT("system" TEXT, "code" TEXT)[])[]
                  )[]
                )[])
              END,
              LAMBDA __ibis_param_row0__ : COALESCE(
                LIST_APPLY(
                  LIST_FILTER(
                    FLATTEN(
                      LIST_APPLY(
                        (
                          __ibis_param_row0__
                        )."code",
                        LAMBDA __ibis_param_x1__ : (
                          __ibis_param_x1__
                        )."coding"
                      )
                    ),
                    LAMBDA __ibis_param_x1__ : __ibis_param_x1__ IS NOT NULL
                  ),
                  LAMBDA __ibis_param_row1__ : {'type': CASE
                    WHEN (
                      (
                        __ibis_param_row0__
                      )."type" >= '['
                    )
                    AND (
                      (
                        (
                          __ibis_param_row0__
                        )."type" < ']'
                      )
                      OR (
                        (
                          __ibis_param_row0__
                        )."type" >= '{'
                      )
                    )
                    THEN REPLACE(
                      CASE
                        WHEN JSON_VALID((
                          __ibis_param_row0__
                        )."type")
                        THEN CAST(NULL AS TEXT)
                        ELSE (
                          __ibis_param_row0__
                        )."type"
                      END,
                      CHR(127),
                      ''
                    )
                    ELSE (
                      __ibis_param_row0__
                    )."type"
                  END, 'start': CASE
                    WHEN (
                      (
                        (
                          __ibis_param_row0__
                        )."period"
                      )."start" >= '['
                    )
                    AND (
                      (
                        (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."start" < ']'
                      )
                      OR (
                        (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."start" >= '{'
                      )
                    )
                    THEN REPLACE(
                      CASE
                        WHEN JSON_VALID((
                          (
                            __ibis_param_row0__
                          )."period"
                        )."start")
                        THEN CAST(NULL AS TEXT)
                        ELSE (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."start"
                      END,
                      CHR(127),
                      ''
                    )
                    ELSE (
                      (
                        __ibis_param_row0__
                      )."period"
                    )."start"
                  END, 'end': CASE
                    WHEN (
                      (
                        (
                          __ibis_param_row0__
                        )."period"
                      )."end" >= '['
                    )
                    AND (
                      (
                        (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."end" < ']'
                      )
                      OR (
                        (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."end" >= '{'
                      )
                    )
                    THEN REPLACE(
                      CASE
                        WHEN JSON_VALID((
                          (
                            __ibis_param_row0__
                          )."period"
                        )."end")
                        THEN CAST(NULL AS TEXT)
                        ELSE (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."end"
                      END,
                      CHR(127),
                      ''
                    )
                    ELSE (
                      (
                        __ibis_param_row0__
                      )."period"
                    )."end"
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
                  END}
                ),
                []
              )
            )
          ),
          []
        ),
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              LIST_FILTER(
                (
                  "t2"."_resource"."provision"
                )."provision",
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
              LAMBDA __ibis_param_row0__ : COALESCE(
                LIST_APPLY(
                  LIST_FILTER(
                    FLATTEN(
                      LIST_APPLY(
                        (
                          __ibis_param_row0__
                        )."code",
                        LAMBDA __ibis_param_x1__ : (
                          __ibis_param_x1__
                        )."coding"
                      )
                    ),
                    LAMBDA __ibis_param_x1__ : __ibis_param_x1__ IS NOT NULL
                  ),
                  LAMBDA __ibis_param_row1__ : {'type': CASE
                    WHEN (
                      (
                        __ibis_param_row0__
                      )."type" >= '['
                    )
                    AND (
                      (
                        (
                          __ibis_param_row0__
                        )."type" < ']'
                      )
                      OR (
                        (
                          __ibis_param_row0__
                        )."type" >= '{'
                      )
                    )
                    THEN REPLACE(
                      CASE
                        WHEN JSON_VALID((
                          __ibis_param_row0__
                        )."type")
                        THEN CAST(NULL AS TEXT)
                        ELSE (
                          __ibis_param_row0__
                        )."type"
                      END,
                      CHR(127),
                      ''
                    )
                    ELSE (
                      __ibis_param_row0__
                    )."type"
                  END, 'start': CASE
                    WHEN (
                      (
                        (
                          __ibis_param_row0__
                        )."period"
                      )."start" >= '['
                    )
                    AND (
                      (
                        (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."start" < ']'
                      )
                      OR (
                        (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."start" >= '{'
                      )
                    )
                    THEN REPLACE(
                      CASE
                        WHEN JSON_VALID((
                          (
                            __ibis_param_row0__
                          )."period"
                        )."start")
                        THEN CAST(NULL AS TEXT)
                        ELSE (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."start"
                      END,
                      CHR(127),
                      ''
                    )
                    ELSE (
                      (
                        __ibis_param_row0__
                      )."period"
                    )."start"
                  END, 'end': CASE
                    WHEN (
                      (
                        (
                          __ibis_param_row0__
                        )."period"
                      )."end" >= '['
                    )
                    AND (
                      (
                        (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."end" < ']'
                      )
                      OR (
                        (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."end" >= '{'
                      )
                    )
                    THEN REPLACE(
                      CASE
                        WHEN JSON_VALID((
                          (
                            __ibis_param_row0__
                          )."period"
                        )."end")
                        THEN CAST(NULL AS TEXT)
                        ELSE (
                          (
                            __ibis_param_row0__
                          )."period"
                        )."end"
                      END,
                      CHR(127),
                      ''
                    )
                    ELSE (
                      (
                        __ibis_param_row0__
                      )."period"
                    )."end"
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
                  END}
                ),
                []
              )
            )
          ),
          []
        )
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
            '{"resourceType":"VARCHAR","id":"VARCHAR","provision":{"type":"VARCHAR","period":{"start":"VARCHAR","end":"VARCHAR"},"code":[{"coding":[{"system":"VARCHAR","code":"VARCHAR"}]}],"provision":[{"type":"VARCHAR","period":{"start":"VARCHAR","end":"VARCHAR"},"code":[{"coding":[{"system":"VARCHAR","code":"VARCHAR"}]}]}]}}'
          ) AS "_resource"
        FROM "resources" AS "t0"
      ) AS "t1"
      WHERE
        "t1"."_resource"."resourceType" = 'Consent'
    ) AS "t2"
  ) AS "t3"
) AS "t4"
