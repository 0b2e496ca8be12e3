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
        "t2"."_resource"."gender" >= '['
      )
      AND (
        (
          "t2"."_resource"."gender" < ']'
        ) OR (
          "t2"."_resource"."gender" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."gender")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."gender"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."gender"
    END AS "gender",
    CASE
      WHEN (
        "t2"."_resource"."birthDate" >= '['
      )
      AND (
        (
          "t2"."_resource"."birthDate" < ']'
        )
        OR (
          "t2"."_resource"."birthDate" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."birthDate")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."birthDate"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."birthDate"
    END AS "birth_date",
    CASE
      WHEN "t2"."_resource"."deceasedBoolean" = 'true'
      THEN TRUE
      WHEN "t2"."_resource"."deceasedBoolean" = 'false'
      THEN FALSE
      ELSE NULL
    END AS "deceased",
    CASE
      WHEN (
        "t2"."_resource"."deceasedDateTime" >= '['
      )
      AND (
        (
          "t2"."_resource"."deceasedDateTime" < ']'
        )
        OR (
          "t2"."_resource"."deceasedDateTime" >= '{'
        )
      )
      THEN REPLACE(
        CASE
          WHEN JSON_VALID("t2"."_resource"."deceasedDateTime")
          THEN CAST(NULL AS TEXT)
          ELSE "t2"."_resource"."deceasedDateTime"
        END,
        CHR(127),
        ''
      )
      ELSE "t2"."_resource"."deceasedDateTime"
    END AS "deceased_date",
    (
      COALESCE(
        ARRAY_LENGTH(
          LIST_FILTER(
            LIST_FILTER("t2"."_resource"."link", LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL),
            LAMBDA __ibis_param_x1__ : (
              __ibis_param_x1__
            )."type" = 'replaced-by'
          )
        ),
        0
      ) = 0
    ) = FALSE AS "replaced",
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
          '{"resourceType":"VARCHAR","id":"VARCHAR","gender":"VARCHAR","birthDate":"VARCHAR","deceasedBoolean":"VARCHAR","deceasedDateTime":"VARCHAR","link":[{"type":"VARCHAR"}],"meta":{"security":[{"code":"VARCHAR"}],"tag":[{"code":"VARCHAR"}]}}'
        ) AS "_resource"
      FROM "resources" AS "t0"
    ) AS "t1"
    WHERE
      "t1"."_resource"."resourceType" = 'Patient'
  ) AS "t2"
) AS "t3"
