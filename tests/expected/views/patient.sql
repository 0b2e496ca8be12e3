SELECT
  "t1"."site",
  "t1"."id",
  "t1"."version_id",
  "t1"."sync",
  "t1"."_resource"."id" AS "key",
  "t1"."_resource"."gender" AS "gender",
  "t1"."_resource"."birthDate" AS "birth_date",
  CASE
    WHEN "t1"."_resource"."deceasedBoolean" = 'true'
    THEN TRUE
    WHEN "t1"."_resource"."deceasedBoolean" = 'false'
    THEN FALSE
    ELSE NULL
  END AS "deceased",
  "t1"."_resource"."deceasedDateTime" AS "deceased_date",
  (
    COALESCE(
      ARRAY_LENGTH(
        LIST_FILTER(
          LIST_FILTER("t1"."_resource"."link", LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL),
          LAMBDA __ibis_param_x1__ : (
            __ibis_param_x1__
          )."type" = 'replaced-by'
        )
      ),
      0
    ) = 0
  ) = FALSE AS "replaced",
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
      '{"resourceType":"VARCHAR","id":"VARCHAR","gender":"VARCHAR","birthDate":"VARCHAR","deceasedBoolean":"VARCHAR","deceasedDateTime":"VARCHAR","link":[{"type":"VARCHAR"}],"meta":{"security":[{"code":"VARCHAR"}]}}'
    ) AS "_resource"
  FROM "resources" AS "t0"
) AS "t1"
WHERE
  "t1"."_resource"."resourceType" = 'Patient'
