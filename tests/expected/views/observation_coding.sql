SELECT
  "t3"."site",
  "t3"."id",
  "t3"."version_id",
  "t3"."sync",
  "t3"."key",
  "t3"."_item4_0"."element" AS "element",
  "t3"."_item4_0"."system" AS "system",
  "t3"."_item4_0"."code" AS "code"
FROM (
  SELECT
    "t2"."site",
    "t2"."id",
    "t2"."version_id",
    "t2"."sync",
    "t2"."key",
    UNNEST("t2"."_rows4_0") AS "_item4_0"
  FROM (
    SELECT
      "t1"."site",
      "t1"."id",
      "t1"."version_id",
      "t1"."sync",
      "t1"."_resource"."id" AS "key",
      CASE
        WHEN COALESCE(
          LIST_APPLY(
            LIST_FILTER(
              (
                "t1"."_resource"."code"
              )."coding",
              LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
            ),
            LAMBDA __ibis_param_row0__ : {'element': 'code', 'system': (
              __ibis_param_row0__
            )."system", 'code': (
              __ibis_param_row0__
            )."code"}
          ),
          []
        ) IS NULL
        OR COALESCE(
          LIST_APPLY(
            LIST_FILTER(
              (
                "t1"."_resource"."valueCodeableConcept"
              )."coding",
              LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
            ),
            LAMBDA __ibis_param_row0__ : {'element': 'value', 'system': (
              __ibis_param_row0__
            )."system", 'code': (
              __ibis_param_row0__
            )."code"}
          ),
          []
        ) IS NULL
        OR COALESCE(
          LIST_APPLY(
            LIST_FILTER(
              (
                "t1"."_resource"."method"
              )."coding",
              LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
            ),
            LAMBDA __ibis_param_row0__ : {'element': 'method', 'system': (
              __ibis_param_row0__
            )."system", 'code': (
              __ibis_param_row0__
            )."code"}
          ),
          []
        ) IS NULL
        OR COALESCE(
          LIST_APPLY(
            LIST_FILTER(
              FLATTEN(
                LIST_APPLY(
                  LIST_APPLY(
                    "t1"."_resource"."component",
                    LAMBDA __ibis_param_x0__ : (
                      __ibis_param_x0__
                    )."valueCodeableConcept"
                  ),
                  LAMBDA __ibis_param_x0__ : (
                    __ibis_param_x0__
                  )."coding"
                )
              ),
              LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
            ),
            LAMBDA __ibis_param_row0__ : {'element': 'component', 'system': (
              __ibis_param_row0__
            )."system", 'code': (
              __ibis_param_row0__
            )."code"}
          ),
          []
        ) IS NULL
        THEN NULL
        ELSE LIST_CONCAT(
          LIST_CONCAT(
            LIST_CONCAT(
              COALESCE(
                LIST_APPLY(
                  LIST_FILTER(
                    (
                      "t1"."_resource"."code"
                    )."coding",
                    LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
                  ),
                  LAMBDA __ibis_param_row0__ : {'element': 'code', 'system': (
                    __ibis_param_row0__
                  )."system", 'code': (
                    __ibis_param_row0__
                  )."code"}
                ),
                []
              ),
              COALESCE(
                LIST_APPLY(
                  LIST_FILTER(
                    (
                      "t1"."_resource"."valueCodeableConcept"
                    )."coding",
                    LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
                  ),
                  LAMBDA __ibis_param_row0__ : {'element': 'value', 'system': (
                    __ibis_param_row0__
                  )."system", 'code': (
                    __ibis_param_row0__
                  )."code"}
                ),
                []
              )
            ),
            COALESCE(
              LIST_APPLY(
                LIST_FILTER(
                  (
                    "t1"."_resource"."method"
                  )."coding",
                  LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
                ),
                LAMBDA __ibis_param_row0__ : {'element': 'method', 'system': (
                  __ibis_param_row0__
                )."system", 'code': (
                  __ibis_param_row0__
                )."code"}
              ),
              []
            )
          ),
          COALESCE(
            LIST_APPLY(
              LIST_FILTER(
                FLATTEN(
                  LIST_APPLY(
                    LIST_APPLY(
                      "t1"."_resource"."component",
                      LAMBDA __ibis_param_x0__ : (
                        __ibis_param_x0__
                      )."valueCodeableConcept"
                    ),
                    LAMBDA __ibis_param_x0__ : (
                      __ibis_param_x0__
                    )."coding"
                  )
                ),
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
              LAMBDA __ibis_param_row0__ : {'element': 'component', 'system': (
                __ibis_param_row0__
              )."system", 'code': (
                __ibis_param_row0__
              )."code"}
            ),
            []
          )
        )
      END AS "_rows4_0"
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","code":{"coding":[{"system":"VARCHAR","code":"VARCHAR"}]},"valueCodeableConcept":{"coding":[{"system":"VARCHAR","code":"VARCHAR"}]},"method":{"coding":[{"system":"VARCHAR","code":"VARCHAR"}]},"component":[{"valueCodeableConcept":{"coding":[{"system":"VARCHAR","code":"VARCHAR"}]}}]}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'Observation'
  ) AS "t2"
) AS "t3"
