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
      LIST_CONCAT(
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              CASE
                WHEN (
                  "t2"."_resource"."code"
                ) IS NULL
                THEN []
                ELSE CAST(["t2"."_resource"."code"] AS STRUCT(
                  "text" TEXT,
                  "coding" STRUCT(
                    "system" TEXT,
                    "code" TEXT,
                    "display" TEXT,
                    "extension" STRUCT("url" TEXT, "valueCoding" STRUCT("display" TEXT, "system" TEXT, "code" TEXT))[]
                  )[]
                )[])
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
                    THEN CAST([
                      CAST(NULL AS STRUCT(
                        "system" TEXT,
                        "code" TEXT,
                        "display" TEXT,
                        "extension" STRUCT("url" TEXT, "valueCoding" STRUCT("display" TEXT, "system" TEXT, "code" TEXT))[]
                      ))
                    ] AS STRUCT(
                      "system" TEXT,
                      "code" TEXT,
                      "display" TEXT,
                      "extension" STRUCT("url" TEXT, "valueCoding" STRUCT("display" TEXT, "system" TEXT, "code" TEXT))[]
                    )[])
                    ELSE LIST_FILTER(
                      (
                        __ibis_param_row0__
                      )."coding",
                      LAMBDA __ibis_param_x1__ : __ibis_param_x1__ IS NOT NULL
                    )
                  END,
                  LAMBDA __ibis_param_row1__ : {'part': 0, 'element': 'code', 'text': CASE
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
        ),
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              LIST_FILTER(
                LIST_APPLY(
                  "t2"."_resource"."stage",
                  LAMBDA __ibis_param_x0__ : (
                    __ibis_param_x0__
                  )."summary"
                ),
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
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
                  LAMBDA __ibis_param_row1__ : {'part': 0, 'element': 'stage', 'text': CASE
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
        ),
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              CASE
                WHEN (
                  "t2"."_resource"."severity"
                ) IS NULL
                THEN []
                ELSE CAST(["t2"."_resource"."severity"] AS STRUCT("text" TEXT, "coding" STRUCT("system" TEXT, "code" TEXT, "display" TEXT)[])[])
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
                  LAMBDA __ibis_param_row1__ : {'part': 0, 'element': 'severity', 'text': CASE
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
        ),
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              CASE
                WHEN (
                  "t2"."_resource"."verificationStatus"
                ) IS NULL
                THEN []
                ELSE CAST(["t2"."_resource"."verificationStatus"] AS STRUCT("text" TEXT, "coding" STRUCT("system" TEXT, "code" TEXT, "display" TEXT)[])[])
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
                  LAMBDA __ibis_param_row1__ : {'part': 0, 'element': 'verificationStatus', 'text': CASE
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
        ),
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              LIST_FILTER(
                FLATTEN(
                  LIST_APPLY(
                    "t2"."_resource"."evidence",
                    LAMBDA __ibis_param_x0__ : (
                      __ibis_param_x0__
                    )."code"
                  )
                ),
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
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
                  LAMBDA __ibis_param_row1__ : {'part': 0, 'element': 'evidence', 'text': CASE
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
        ),
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              LIST_FILTER(
                LIST_APPLY(
                  LIST_FILTER(
                    LIST_FILTER(
                      "t2"."_resource"."extension",
                      LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
                    ),
                    LAMBDA __ibis_param_x1__ : (
                      (
                        __ibis_param_x1__
                      )."url" = 'http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-histology-morphology-behavior'
                    )
                    OR (
                      (
                        __ibis_param_x1__
                      )."url" = 'https://www.medizininformatik-initiative.de/fhir/ext/modul-onko/StructureDefinition/mii-ex-onko-histology-morphology-behavior-icdo3'
                    )
                  ),
                  LAMBDA __ibis_param_x0__ : (
                    __ibis_param_x0__
                  )."valueCodeableConcept"
                ),
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
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
                  LAMBDA __ibis_param_row1__ : {'part': 0, 'element': 'morphology', 'text': CASE
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
        ),
        COALESCE(
          FLATTEN(
            LIST_APPLY(
              LIST_FILTER(
                "t2"."_resource"."bodySite",
                LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
              ),
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
                  LAMBDA __ibis_param_row1__ : {'part': 0, 'element': 'bodySite', 'text': CASE
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
        ),
        COALESCE(
          LIST_APPLY(
            LIST_FILTER(
              LIST_APPLY(
                LIST_FILTER(
                  LIST_FILTER(
                    FLATTEN(
                      LIST_APPLY(
                        (
                          "t2"."_resource"."code"
                        )."coding",
                        LAMBDA __ibis_param_x0__ : (
                          __ibis_param_x0__
                        )."extension"
                      )
                    ),
                    LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
                  ),
                  LAMBDA __ibis_param_x1__ : (
                    __ibis_param_x1__
                  )."url" = 'http://fhir.de/StructureDefinition/icd-10-gm-diagnosesicherheit'
                ),
                LAMBDA __ibis_param_x0__ : (
                  __ibis_param_x0__
                )."valueCoding"
              ),
              LAMBDA __ibis_param_x0__ : __ibis_param_x0__ IS NOT NULL
            ),
            LAMBDA __ibis_param_row0__ : {'part': 0, 'element': 'certainty', 'text': REPLACE(CASE WHEN FALSE THEN (
              __ibis_param_row0__
            )."display" ELSE NULL END, CHR(127), ''), 'system': CASE
              WHEN (
                (
                  __ibis_param_row0__
                )."system" >= '['
              )
              AND (
                (
                  (
                    __ibis_param_row0__
                  )."system" < ']'
                )
                OR (
                  (
                    __ibis_param_row0__
                  )."system" >= '{'
                )
              )
              THEN REPLACE(
                CASE
                  WHEN JSON_VALID((
                    __ibis_param_row0__
                  )."system")
                  THEN CAST(NULL AS TEXT)
                  ELSE (
                    __ibis_param_row0__
                  )."system"
                END,
                CHR(127),
                ''
              )
              ELSE (
                __ibis_param_row0__
              )."system"
            END, 'code': CASE
              WHEN (
                (
                  __ibis_param_row0__
                )."code" >= '['
              )
              AND (
                (
                  (
                    __ibis_param_row0__
                  )."code" < ']'
                )
                OR (
                  (
                    __ibis_param_row0__
                  )."code" >= '{'
                )
              )
              THEN REPLACE(
                CASE
                  WHEN JSON_VALID((
                    __ibis_param_row0__
                  )."code")
                  THEN CAST(NULL AS TEXT)
                  ELSE (
                    __ibis_param_row0__
                  )."code"
                END,
                CHR(127),
                ''
              )
              ELSE (
                __ibis_param_row0__
              )."code"
            END, 'display': CASE
              WHEN (
                (
                  __ibis_param_row0__
                )."display" >= '['
              )
              AND (
                (
                  (
                    __ibis_param_row0__
                  )."display" < ']'
                )
                OR (
                  (
                    __ibis_param_row0__
                  )."display" >= '{'
                )
              )
              THEN REPLACE(
                CASE
                  WHEN JSON_VALID((
                    __ibis_param_row0__
                  )."display")
                  THEN CAST(NULL AS TEXT)
                  ELSE (
                    __ibis_param_row0__
                  )."display"
                END,
                CHR(127),
                ''
              )
              ELSE (
                __ibis_param_row0__
              )."display"
            END}
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
            '{"resourceType":"VARCHAR","id":"VARCHAR","code":{"text":"VARCHAR","coding":[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR","extension":[{"url":"VARCHAR","valueCoding":{"display":"VARCHAR","system":"VARCHAR","code":"VARCHAR"}}]}]},"stage":[{"summary":{"text":"VARCHAR","coding":[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR"}]}}],"severity":{"text":"VARCHAR","coding":[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR"}]},"verificationStatus":{"text":"VARCHAR","coding":[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR"}]},"evidence":[{"code":[{"text":"VARCHAR","coding":[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR"}]}]}],"extension":[{"url":"VARCHAR","valueCodeableConcept":{"text":"VARCHAR","coding":[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR"}]}}],"bodySite":[{"text":"VARCHAR","coding":[{"system":"VARCHAR","code":"VARCHAR","display":"VARCHAR"}]}]}'
          ) AS "_resource"
        FROM "resources" AS "t0"
      ) AS "t1"
      WHERE
        "t1"."_resource"."resourceType" = 'Condition'
    ) AS "t2"
  ) AS "t3"
) AS "t4"
