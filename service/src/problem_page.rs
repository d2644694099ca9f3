//! Explanations of problems: the sections of docs/problems.md.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::{Path, Problem, ProblemKind};

const PAGE: &str = include_str!("../../docs/problems.md");

/// Explains one kind of problem.
pub(crate) async fn show(Path(name): Path<String>) -> Result<Response, Problem> {
    let section =
        section(&name).ok_or_else(|| Problem::new(ProblemKind::NotFound, "no problem has this name"))?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], section).into_response())
}

/// The section under a heading, the heading included.
fn section(name: &str) -> Option<&'static str> {
    sections().find_map(|(heading, section)| (heading == name).then_some(section))
}

fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    let starts = PAGE.match_indices("\n## ").map(|(at, _)| at + 1);
    starts.map(|start| {
        let section = &PAGE[start..];
        let end = section.find("\n\n## ").map_or(section.len(), |end| end + 1);
        let heading = section.lines().next().unwrap_or_default().trim_start_matches("## ");
        (heading, &section[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways: a kind that is not explained fails, and so does an explanation of none.
    #[test]
    fn the_page_explains_every_kind_of_problem_and_no_other() {
        let explained: Vec<&str> = sections().map(|(heading, _)| heading).collect();
        let kinds: Vec<&str> = ProblemKind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(
            explained, kinds,
            "docs/problems.md has a section for each kind, in the order of ProblemKind"
        );
        for kind in ProblemKind::ALL {
            let begins = format!("## {}\n\n{}, *{}*.", kind.slug(), kind.status().as_u16(), kind.title());
            let section = section(kind.slug()).unwrap();
            assert!(section.starts_with(&begins), "the section must begin with {begins:?}");
            assert!(section.len() > begins.len() + 20, "{section}");
        }
    }
}
