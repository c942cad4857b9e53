//! Is the answer right, and if not, which part of it is wrong?

use std::collections::BTreeMap;

use super::definition::{Question, fill};

/// What became of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    Missing,
    /// Where one is asked for.
    NoNumber,
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
        return Err(format!("the answer must read: {}", form(questions)));
    }
    // `name=` of no question would become part of the value before it, and that be called wrong.
    let unknown = text.split([' ', '\t', '\n', ',']).find_map(|word| {
        let (name, _) = word.split_once('=')?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        (is_name && questions.iter().all(|question| question.field != name)).then_some(name)
    });
    if let Some(name) = unknown {
        return Err(format!(
            "nobody asks for `{name}`; the answer must read: {}",
            form(questions)
        ));
    }
    let ends = begins.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    let parts = begins.iter().zip(ends).map(|((begin, field), end)| {
        let value = &text[begin + field.len() + 1..end];
        let blank = |c: char| c.is_whitespace() || "\"',".contains(c);
        ((*field).to_owned(), value.trim_matches(blank).to_owned())
    });
    Ok(parts.collect())
}

fn form(questions: &[Question]) -> String {
    let fields = questions.iter();
    fields
        .map(|question| format!("{}=…", question.field))
        .collect::<Vec<_>>()
        .join(" ")
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
                Some(given) if question.within > 0.0 && given.trim().parse::<f64>().is_err() => {
                    Verdict::NoNumber
                }
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
        use Verdict::{Missing, NoNumber, Right, Wrong};
        for (text, statement, every) in [
            ("statement=UPDATE products every=20", Right, Right),
            ("every=16, statement=\"update products\"", Right, Right),
            ("statement=INSERT orders every=25.1", Wrong, Wrong),
            ("every=14.9", Missing, Wrong),
            ("every=soon", Missing, NoNumber),
            ("every=20s", Missing, NoNumber),
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
        let told = read("statement=UPDATE products wait=20 every=20", &questions()).unwrap_err();
        assert_eq!(
            told,
            "nobody asks for `wait`; the answer must read: statement=… every=…"
        );
    }
}
