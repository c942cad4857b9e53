//! Is the answer right, and if not, which part of it is wrong?

use std::collections::BTreeMap;

use super::definition::{Question, fill};

/// What became of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    Missing,
}

/// Reads `field=value field=value`, for the fields that are asked for. A value reaches to the next field, so it may hold blanks.
pub fn read(text: &str, questions: &[Question]) -> Result<BTreeMap<String, String>, String> {
    let mut begins: Vec<(usize, &str)> = questions
        .iter()
        .filter_map(|question| {
            let field = question.field.as_str();
            let begin = text
                .match_indices(&format!("{field}="))
                .map(|(at, _)| at)
                .find(|at| {
                    let before = text[..*at].chars().next_back();
                    before.is_none_or(|before| before.is_whitespace() || before == ',')
                });
            Some((begin?, field))
        })
        .collect();
    begins.sort_unstable();
    if begins
        .first()
        .is_none_or(|(at, _)| !text[..*at].trim().is_empty())
    {
        let fields: Vec<String> = questions
            .iter()
            .map(|question| format!("{}=…", question.field))
            .collect();
        return Err(format!("the answer must read: {}", fields.join(" ")));
    }
    let ends = begins.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    let parts = begins.iter().zip(ends).map(|((begin, field), end)| {
        let value = &text[begin + field.len() + 1..end];
        let blank = |c: char| c.is_whitespace() || "\"',".contains(c);
        ((*field).to_owned(), value.trim_matches(blank).to_owned())
    });
    Ok(parts.collect())
}

/// Each question with what was made of it. `chosen` is what the run chose.
pub fn grade<'a>(
    given: &BTreeMap<String, String>,
    questions: &'a [Question],
    chosen: &BTreeMap<String, String>,
) -> Vec<(&'a str, Verdict)> {
    questions
        .iter()
        .map(|question| {
            let verdict = match given.get(&question.field) {
                None => Verdict::Missing,
                Some(given) if fits(given, &fill(&question.answer, chosen), question.within) => {
                    Verdict::Right
                }
                Some(_) => Verdict::Wrong,
            };
            (question.field.as_str(), verdict)
        })
        .collect()
}

fn fits(given: &str, right: &str, within: f64) -> bool {
    if given.trim().to_lowercase() == right.trim().to_lowercase() {
        return true;
    }
    match (given.trim().parse::<f64>(), right.trim().parse::<f64>()) {
        (Ok(given), Ok(right)) => (given - right).abs() <= right.abs() * within,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(field: &str, answer: &str, within: f64) -> Question {
        Question {
            field: field.into(),
            ask: String::new(),
            answer: answer.into(),
            within,
        }
    }

    fn questions() -> [Question; 2] {
        [
            question("statement", "UPDATE products", 0.0),
            question("every", "{every}", 0.25),
        ]
    }

    #[test]
    fn each_field_is_judged_by_itself_and_numbers_within_their_bound() {
        let chosen = BTreeMap::from([("every".to_owned(), "20".to_owned())]);
        use Verdict::{Missing, Right, Wrong};
        for (text, statement, every) in [
            ("statement=UPDATE products every=20", Right, Right),
            ("every=16, statement=\"update products\"", Right, Right),
            ("statement=INSERT orders every=25.1", Wrong, Wrong),
            ("every=14.9", Missing, Wrong),
            ("every=soon", Missing, Wrong),
            ("every=NaN", Missing, Wrong),
        ] {
            let questions = questions();
            let given = read(text, &questions).unwrap();
            let graded = grade(&given, &questions, &chosen);
            assert_eq!(
                graded,
                [("statement", statement), ("every", every)],
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_answer_is_told_what_one_looks_like() {
        for text in ["", "the database", "whenever=20", "so every=20"] {
            let told = read(text, &questions()).unwrap_err();
            assert_eq!(told, "the answer must read: statement=… every=…");
        }
    }
}
