-- One row for each person with type 2 diabetes: has chronic kidney disease been recorded?
-- OMOP Common Data Model 5.4; runs as it is on PostgreSQL and SQLite.
--
-- Every column is brought into the range that kidney.yaml declares. Where a person has no
-- measurement the column holds a public constant and `..._known` is 0: nothing is estimated here.
-- 2025 is the year in which ages are taken; change it and the concept sets only with all partners.
WITH diabetes AS (
    SELECT DISTINCT c.person_id
    FROM condition_occurrence c
    JOIN concept_ancestor a ON a.descendant_concept_id = c.condition_concept_id
    WHERE a.ancestor_concept_id = 201826          -- type 2 diabetes mellitus
),
kidney AS (
    SELECT DISTINCT c.person_id
    FROM condition_occurrence c
    JOIN concept_ancestor a ON a.descendant_concept_id = c.condition_concept_id
    WHERE a.ancestor_concept_id = 46271022        -- chronic kidney disease
),
newest AS (                                       -- the newest value of each measurement, once
    SELECT person_id, measurement_concept_id, value_as_number,
           ROW_NUMBER() OVER (
               PARTITION BY person_id, measurement_concept_id
               ORDER BY measurement_date DESC, measurement_id DESC
           ) AS place
    FROM measurement
    WHERE value_as_number IS NOT NULL
      AND measurement_concept_id IN (3004249, 3038553, 3004410)
),
wide AS (
    SELECT p.person_id,
           2025 - p.year_of_birth AS age,
           CASE p.gender_concept_id WHEN 8532 THEN 'female' WHEN 8507 THEN 'male' ELSE 'other' END AS sex,
           MAX(CASE WHEN n.measurement_concept_id = 3004249 THEN n.value_as_number END) AS systolic,
           MAX(CASE WHEN n.measurement_concept_id = 3038553 THEN n.value_as_number END) AS bmi,
           MAX(CASE WHEN n.measurement_concept_id = 3004410 THEN n.value_as_number END) AS hba1c
    FROM person p
    JOIN diabetes d ON d.person_id = p.person_id
    LEFT JOIN newest n ON n.person_id = p.person_id AND n.place = 1
    GROUP BY p.person_id, p.year_of_birth, p.gender_concept_id
)
SELECT w.person_id,
       CASE WHEN w.age < 18 THEN 18 WHEN w.age > 89 THEN 89 ELSE w.age END AS age,
       w.sex,
       CASE WHEN w.systolic IS NULL THEN 135 WHEN w.systolic < 70 THEN 70
            WHEN w.systolic > 250 THEN 250 ELSE w.systolic END AS systolic,
       CASE WHEN w.systolic IS NULL THEN 0 ELSE 1 END AS systolic_known,
       CASE WHEN w.bmi IS NULL THEN 29 WHEN w.bmi < 12 THEN 12
            WHEN w.bmi > 70 THEN 70 ELSE w.bmi END AS bmi,
       CASE WHEN w.bmi IS NULL THEN 0 ELSE 1 END AS bmi_known,
       CASE WHEN w.hba1c IS NULL THEN 7 WHEN w.hba1c < 3 THEN 3
            WHEN w.hba1c > 20 THEN 20 ELSE w.hba1c END AS hba1c,
       CASE WHEN w.hba1c IS NULL THEN 0 ELSE 1 END AS hba1c_known,
       CASE WHEN k.person_id IS NULL THEN 0 ELSE 1 END AS kidney_disease
FROM wide w
LEFT JOIN kidney k ON k.person_id = w.person_id
