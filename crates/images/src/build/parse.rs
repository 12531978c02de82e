//! Dockerfiles as a list of instructions with their lines.

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Where it starts, from 1.
    pub(crate) line: usize,
    /// In capitals.
    pub(crate) name: String,
    /// `--name=value` before the arguments; `--name` has an empty value.
    pub(crate) flags: Vec<(String, String)>,
    /// All after name and flags, lines joined.
    pub(crate) args: String,
    pub(crate) heredocs: Vec<Heredoc>,
}

/// A text that follows an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heredoc {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Whether variables in it are filled in.
    pub(crate) expand: bool,
}

/// A Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dockerfile {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) escape: char,
}

/// What is wrong in which line: the line, the instruction's name, and why.
pub(crate) type Wrong = (usize, String, String);

const KNOWN: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile.
pub(crate) fn parse(text: &str) -> Result<Dockerfile, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.lines().collect();
    let escape = escape_directive(&lines)?;
    let mut instructions = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let trimmed = lines[at].trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            at += 1;
            continue;
        }
        let first = at;
        let joined = join(&lines, &mut at, escape);
        let mut instruction = split(&joined, first + 1)?;
        if ["RUN", "COPY", "ADD"].contains(&instruction.name.as_str()) {
            take_heredocs(&mut instruction, &lines, &mut at)?;
        }
        instructions.push(instruction);
    }
    if instructions.is_empty() {
        return Err((1, "FROM".to_owned(), "the file has no instructions".to_owned()));
    }
    Ok(Dockerfile { instructions, escape })
}

/// One line of an ONBUILD trigger or the like.
pub(crate) fn parse_line(line: &str, number: usize) -> Result<Instruction, Wrong> {
    split(line, number)
}

fn escape_directive(lines: &[&str]) -> Result<char, Wrong> {
    for (i, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.trim().strip_prefix('#').and_then(|l| l.split_once('=')) else { break };
        if key.trim().eq_ignore_ascii_case("escape") {
            return match value.trim() {
                "\\" => Ok('\\'),
                "`" => Ok('`'),
                other => Err((i + 1, "escape".to_owned(), format!("{other:?} isn't \\ or `"))),
            };
        }
    }
    Ok('\\')
}

/// Joins lines that end in the escape character. Comments and empty lines between them are passed over.
fn join(lines: &[&str], at: &mut usize, escape: char) -> String {
    let mut joined = String::new();
    let mut continued = false;
    while let Some(line) = lines.get(*at) {
        let trimmed = line.trim();
        if continued && (trimmed.is_empty() || trimmed.starts_with('#')) {
            *at += 1;
            continue;
        }
        *at += 1;
        let line = if continued { line } else { line.trim_start() };
        match line.trim_end().strip_suffix(escape) {
            Some(rest) => joined.push_str(rest),
            None => {
                joined.push_str(line);
                break;
            }
        }
        continued = true;
    }
    joined.trim_end().to_owned()
}

fn split(joined: &str, line: usize) -> Result<Instruction, Wrong> {
    let (name, mut rest) = joined.split_once(char::is_whitespace).unwrap_or((joined, ""));
    let name = name.to_ascii_uppercase();
    if !KNOWN.contains(&name.as_str()) {
        return Err((line, name, "no such instruction".to_owned()));
    }
    rest = rest.trim_start();
    let mut flags = Vec::new();
    if ["ADD", "COPY", "FROM", "RUN", "HEALTHCHECK"].contains(&name.as_str()) {
        while let Some(flag) = rest.strip_prefix("--") {
            let (flag, left) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
            let (key, value) = flag.split_once('=').unwrap_or((flag, ""));
            flags.push((key.to_owned(), value.to_owned()));
            rest = left.trim_start();
        }
    }
    if rest.is_empty() {
        return Err((line, name, "needs arguments".to_owned()));
    }
    Ok(Instruction { line, name, flags, args: rest.to_owned(), heredocs: vec![] })
}

/// Finds `<<WORD`, `<<-WORD` and `<<"WORD"` in the arguments and takes their texts from the lines that follow.
fn take_heredocs(instruction: &mut Instruction, lines: &[&str], at: &mut usize) -> Result<(), Wrong> {
    for word in instruction.args.clone().split_whitespace() {
        let Some((_, mark)) = word.split_once("<<") else { continue };
        let descriptor = word.split("<<").next().unwrap_or("");
        if mark.starts_with('<') || !descriptor.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let (strip, mark) = mark.strip_prefix('-').map_or((false, mark), |m| (true, m));
        let quoted = mark.len() > 2 && (mark.starts_with('"') || mark.starts_with('\''));
        let name = if quoted { &mark[1..mark.len() - 1] } else { mark };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
            continue;
        }
        let mut text = String::new();
        loop {
            let Some(line) = lines.get(*at) else {
                return Err((instruction.line, instruction.name.clone(), format!("the text after <<{name} has no end")));
            };
            *at += 1;
            let line = if strip { line.trim_start_matches('\t') } else { line };
            if line == name {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        instruction.heredocs.push(Heredoc { name: name.to_owned(), text, expand: !quoted });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_comments_flags_and_texts() {
        let file = parse(concat!(
            "# syntax=docker/dockerfile:1\n# escape=`\n\nfrom a AS b # not a comment\nRUN one `\n  # between\n\n  two`\nthree\n",
            "COPY --from=b --chown=1:2 x /y\nCOPY <<'A' <<-B /d/\n$a\nA\n\tb\nB\nRUN cat <<E > f\nx\nE\n"
        ))
        .unwrap();
        let shown: Vec<_> = file.instructions.iter().map(|i| (i.line, i.name.as_str(), i.args.as_str())).collect();
        assert_eq!(
            shown,
            [
                (4, "FROM", "a AS b # not a comment"),
                (5, "RUN", "one   twothree"),
                (10, "COPY", "x /y"),
                (11, "COPY", "<<'A' <<-B /d/"),
                (16, "RUN", "cat <<E > f")
            ]
        );
        assert_eq!(file.instructions[2].flags, [("from".into(), "b".into()), ("chown".into(), "1:2".into())]);
        let texts = &file.instructions[3].heredocs;
        assert_eq!((texts[0].text.as_str(), texts[0].expand, texts[1].text.as_str(), texts[1].expand), ("$a\n", false, "b\n", true));
        assert_eq!(file.instructions[4].heredocs[0].text, "x\n");
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line, why) in [
            ("", 1, "no instructions"),
            ("FROM x\nFROB y\n", 2, "no such instruction"),
            ("FROM x\n\nRUN\n", 3, "needs arguments"),
            ("FROM x\nRUN <<E\nabc\n", 2, "no end"),
            ("# escape=x\nFROM y", 1, "isn't"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.0 == line && wrong.2.contains(why), "{text:?}: {wrong:?}");
        }
    }
}
