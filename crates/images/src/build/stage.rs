//! One stage of a build: what it is so far, and what each instruction makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::layer::{Hidden, LayerWriter, Look};
use super::merged::Merged;
use super::parse::{self, Instruction};
use super::run::{BORROWED, Step};
use super::{Context, history, ignore, words};
use crate::document::{Descriptor, Empty, History, ProcessConfig, architecture, to_json};
use crate::image::resolve_user;
use crate::store::{Cached, Staged, chain_ids};
use crate::unpack;
use crate::{Digest, Error, Result};

/// What a stage begins with.
#[derive(Default)]
pub(crate) struct Base {
    pub(crate) config: ProcessConfig,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) history: Vec<History>,
}

/// A stage so far.
pub(crate) struct Stage {
    pub(crate) config: ProcessConfig,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) history: Vec<History>,
    /// ARGs that were declared in it.
    args: BTreeMap<String, String>,
    /// Whether CMD was given here: an ENTRYPOINT takes an inherited one away.
    own_cmd: bool,
}

const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// How much of a failed command's output its error carries.
const LAST_LINES: usize = 20;

impl Stage {
    pub(crate) fn new(base: Base) -> Self {
        let Base { config, layers, diff_ids, history } = base;
        Self { config, layers, diff_ids, history, args: BTreeMap::new(), own_cmd: false }
    }

    /// A stage that goes on from here. ARGs don't.
    pub(crate) fn continued(&self) -> Self {
        let base = Base {
            config: self.config.clone(),
            layers: self.layers.clone(),
            diff_ids: self.diff_ids.clone(),
            history: self.history.clone(),
        };
        Self::new(base)
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let prefix = |e: &&String| e.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        let env = self.config.env.iter().flatten().find(prefix).map(|e| e[name.len() + 1..].to_owned());
        env.or_else(|| self.args.get(name).cloned())
    }

    fn words(&self, context: &Context<'_>, instruction: &Instruction) -> Result<Vec<String>> {
        words::words(&instruction.args, context.escape, &|n| self.lookup(n)).map_err(|why| context.wrong(instruction, why))
    }

    /// The only word of an instruction that takes one.
    fn word(&self, context: &Context<'_>, instruction: &Instruction) -> Result<String> {
        match self.words(context, instruction)?.as_slice() {
            [word] => Ok(word.clone()),
            other => Err(context.wrong(instruction, format!("it takes one argument, not {}", other.len()))),
        }
    }

    /// The exec form if it is one, else the shell's.
    fn command(&self, args: &str) -> Vec<String> {
        json_words(args).unwrap_or_else(|| {
            let shell = self.config.shell.clone().unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
            shell.into_iter().chain([args.to_owned()]).collect()
        })
    }

    /// Carries an instruction out.
    pub(crate) async fn apply(&mut self, context: &Context<'_>, number: usize, instruction: &Instruction) -> Result<()> {
        match instruction.name.as_str() {
            "RUN" => return self.run(context, instruction).await,
            "COPY" | "ADD" => return self.copy(context, number, instruction).await,
            "WORKDIR" => return self.workdir(context, instruction),
            "ENV" => {
                for (key, value) in self.pairs(context, instruction)? {
                    set_env(self.config.env.get_or_insert_default(), &key, &value);
                }
            }
            "LABEL" => {
                let pairs = self.pairs(context, instruction)?;
                self.config.labels.get_or_insert_default().extend(pairs);
            }
            "ARG" => self.arg(context, instruction)?,
            "USER" => self.config.user = self.word(context, instruction)?,
            "STOPSIGNAL" => self.config.stop_signal = self.word(context, instruction)?,
            "EXPOSE" => self.expose(context, instruction)?,
            "VOLUME" => {
                let paths = json_words(&instruction.args).map_or_else(|| self.words(context, instruction), Ok)?;
                self.config.volumes.get_or_insert_default().extend(paths.into_iter().map(|p| (p, Empty {})));
            }
            "CMD" => {
                self.config.cmd = Some(self.command(&instruction.args));
                self.own_cmd = true;
            }
            "ENTRYPOINT" => {
                self.config.entrypoint = Some(self.command(&instruction.args));
                if !self.own_cmd {
                    self.config.cmd = None;
                }
            }
            "SHELL" => {
                let shell = json_words(&instruction.args).filter(|s| !s.is_empty());
                self.config.shell =
                    Some(shell.ok_or_else(|| context.wrong(instruction, "it takes a JSON list, as [\"/bin/sh\", \"-c\"]"))?);
            }
            "HEALTHCHECK" => self.config.healthcheck = Some(healthcheck(self, context, instruction)?),
            "ONBUILD" => {
                let trigger = parse::parse_line(&instruction.args, instruction.line)
                    .map_err(|(_, name, why)| context.wrong(instruction, format!("{name}: {why}")))?;
                if ["FROM", "ONBUILD", "MAINTAINER"].contains(&trigger.name.as_str()) {
                    return Err(context.wrong(instruction, format!("{} can't be a trigger", trigger.name)));
                }
                self.config.on_build.get_or_insert_default().push(instruction.args.clone());
            }
            "MAINTAINER" => drop(self.config.labels.get_or_insert_default().insert("maintainer".to_owned(), instruction.args.clone())),
            other => return Err(context.wrong(instruction, format!("{other} can't stand here"))),
        }
        self.history.push(history(instruction, true));
        Ok(())
    }

    /// `KEY=value …`, or the old `KEY value with blanks`.
    fn pairs(&self, context: &Context<'_>, instruction: &Instruction) -> Result<Vec<(String, String)>> {
        let words = self.words(context, instruction)?;
        let first = instruction.args.split_whitespace().next().unwrap_or("");
        if !first.contains('=') && instruction.name == "ENV" {
            let (key, value) =
                instruction.args.split_once(char::is_whitespace).ok_or_else(|| context.wrong(instruction, "it takes KEY=value"))?;
            let value = words::expand(value.trim(), context.escape, &|n| self.lookup(n)).map_err(|why| context.wrong(instruction, why))?;
            return Ok(vec![(key.to_owned(), value)]);
        }
        let pair = |word: String| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(context.wrong(instruction, format!("{word:?} isn't KEY=value"))),
        };
        words.into_iter().map(pair).collect()
    }

    fn arg(&mut self, context: &Context<'_>, instruction: &Instruction) -> Result<()> {
        for word in self.words(context, instruction)? {
            let (name, default) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v.to_owned())));
            let given = context.options.build_args.get(name).cloned();
            if let Some(value) = given.or(default).or_else(|| context.global.get(name).cloned()).or_else(|| predefined(name)) {
                self.args.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn expose(&mut self, context: &Context<'_>, instruction: &Instruction) -> Result<()> {
        for word in self.words(context, instruction)? {
            let (ports, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
                return Err(context.wrong(instruction, format!("{word:?} isn't a port")));
            };
            let exposed = self.config.exposed_ports.get_or_insert_default();
            exposed.extend((first..=last).map(|port| (format!("{port}/{}", protocol.to_ascii_lowercase()), Empty {})));
        }
        Ok(())
    }

    fn merged(&self, context: &Context<'_>) -> Result<Merged> {
        Merged::open(&self.lower(context)?)
    }

    /// This stage's layers, unpacked.
    fn lower(&self, context: &Context<'_>) -> Result<Vec<PathBuf>> {
        context.builder.store.unpack_all(&self.layers, &self.diff_ids)?;
        Ok(context.builder.store.lower(&self.diff_ids))
    }

    fn add_layer(&mut self, instruction: &Instruction, layer: Option<Cached>) {
        self.history.push(history(instruction, layer.is_none()));
        if let Some(Cached { layer, diff_id }) = layer {
            self.layers.push(layer);
            self.diff_ids.push(diff_id);
        }
    }

    fn workdir(&mut self, context: &Context<'_>, instruction: &Instruction) -> Result<()> {
        let given = self.word(context, instruction)?;
        let current = if self.config.working_dir.is_empty() { "/" } else { &self.config.working_dir };
        let path = lexical(&Path::new("/").join(current).join(given));
        let image = self.merged(context)?;
        let real = image.real_path(&path)?;
        let mut writer = LayerWriter::new(context.builder.store)?;
        writer.directories(&image, &real, Look::default())?;
        let layer = if writer.is_empty() { None } else { Some(writer.finish()?) };
        self.config.working_dir = path.display().to_string();
        self.add_layer(instruction, layer);
        Ok(())
    }

    async fn run(&mut self, context: &Context<'_>, instruction: &Instruction) -> Result<()> {
        if let Some((flag, _)) = instruction.flags.iter().find(|(f, _)| f != "network") {
            return Err(context.wrong(instruction, format!("--{flag} isn't supported")));
        }
        let args = self.run_args(instruction);
        let mut env = self.config.env.clone().unwrap_or_default();
        for (name, value) in &self.args {
            if self.lookup(name).as_ref() == Some(value) {
                set_env(&mut env, name, value);
            }
        }
        let chain = chain_ids(&self.diff_ids).pop();
        let key = Digest::of(to_json(&("RUN", chain, &args, &env, &self.config.user, &self.config.working_dir)));
        let store = context.builder.store;
        if let Some(cached) = store.cached(&key).filter(|_| !context.options.no_cache) {
            (context.builder.progress)("  cached");
            self.add_layer(instruction, Some(cached));
            return Ok(());
        }
        let runner = context
            .builder
            .runner
            .as_ref()
            .ok_or_else(|| context.wrong(instruction, "commands can't be run here: no container runtime"))?;
        let lower = self.lower(context)?;
        let staged = store.stage();
        for part in ["", "upper", "work"] {
            let path = staged.0.join(part);
            fs::create_dir(&path).map_err(Error::path("make", &path))?;
        }
        look_like_top(&staged, &lower)?;
        let step =
            Step { args, env, workdir: &self.config.working_dir, user: &self.config.user, lower: lower.clone(), directory: &staged.0 };
        let (code, text) = runner.run(step).await.map_err(|e| context.wrong(instruction, gantry_object::chain(&e)))?;
        text.lines().for_each(|line| (context.builder.progress)(&format!("  {line}")));
        if code != 0 {
            let lines: Vec<_> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
            return Err(context.wrong(instruction, format!("the command ended with exit code {code}\n{end}")));
        }
        let image = Merged::open(&lower)?;
        // Mount points that the container needed and the image doesn't have.
        let needed = |path: &Path| {
            let point = ["proc", "dev", "sys"].iter().chain(&BORROWED).any(|p| Path::new(p) == path);
            point && image.look(path).is_ok_and(|found| found.is_none())
        };
        let mut writer = LayerWriter::new(store)?;
        writer.changes(&staged.0.join("upper"), &needed)?;
        let cached = writer.finish()?;
        store.set_cached(&key, &cached)?;
        self.add_layer(instruction, Some(cached));
        Ok(())
    }

    /// What to run. A text alone is the script; with a command before it the shell takes both.
    fn run_args(&self, instruction: &Instruction) -> Vec<String> {
        if instruction.heredocs.is_empty() {
            return self.command(&instruction.args);
        }
        let script = match instruction.heredocs.as_slice() {
            [only] if instruction.args.starts_with("<<") && !instruction.args.contains(char::is_whitespace) => only.text.clone(),
            all => {
                let texts: String = all.iter().map(|h| format!("{}{}\n", h.text, h.name)).collect();
                format!("{}\n{texts}", instruction.args)
            }
        };
        let shell = self.config.shell.clone().unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
        shell.into_iter().chain([script]).collect()
    }

    async fn copy(&mut self, context: &Context<'_>, number: usize, instruction: &Instruction) -> Result<()> {
        let wrong = |why: String| context.wrong(instruction, why);
        let (mut from, mut look) = (None, Look { owner: Some((0, 0)), mode: None });
        for (flag, value) in &instruction.flags {
            let value = words::expand(value, context.escape, &|n| self.lookup(n)).map_err(wrong)?;
            match flag.as_str() {
                "from" if instruction.name == "COPY" => from = Some(value),
                "chown" => {
                    let user = resolve_user(&self.lower(context)?, &value).map_err(|e| wrong(e.to_string()))?;
                    // Without a group the user's number is the group's too.
                    look.owner = Some((user.uid, if value.contains(':') { user.gid } else { user.uid }));
                }
                "chmod" => look.mode = Some(u32::from_str_radix(&value, 8).map_err(|_| wrong(format!("--chmod={value} isn't octal")))?),
                // How layers are made, not what is in them.
                "link" => {}
                other => return Err(wrong(format!("--{other} isn't supported"))),
            }
        }
        let mut paths = json_words(&instruction.args).map_or_else(|| self.words(context, instruction), Ok)?;
        paths.retain(|p| !p.contains("<<") || instruction.heredocs.is_empty());
        let Some(target) = paths.pop().filter(|_| !paths.is_empty() || !instruction.heredocs.is_empty()) else {
            return Err(wrong("it takes sources and a destination".to_owned()));
        };
        if let Some(url) = paths.iter().find(|p| p.contains("://") || p.starts_with("git@")).filter(|_| instruction.name == "ADD") {
            return Err(wrong(format!("{url}: fetching isn't supported; fetch it in a RUN, or put it into the context")));
        }
        let source = self.source(context, number, instruction, from.as_deref()).await?;
        let image = self.merged(context)?;
        let job = Copy { context, instruction, stage: self, image: &image, look, from_context: from.is_none() };
        let layer = job.make(&source, &paths, &target)?;
        self.add_layer(instruction, Some(layer));
        Ok(())
    }

    /// Where COPY takes from: the context, an earlier stage or an image.
    async fn source(&self, context: &Context<'_>, number: usize, instruction: &Instruction, from: Option<&str>) -> Result<Merged> {
        let Some(from) = from else { return Merged::open(std::slice::from_ref(&context.options.context)) };
        if let Some(stage) = context.stage_number(from, number).and_then(|n| context.stages.get(&n)) {
            return stage.merged(context);
        }
        let (config, _) = context.builder.image(from).await.map_err(|e| context.wrong(instruction, gantry_object::chain(&e)))?;
        Merged::open(&context.builder.store.lower(&config.rootfs.diff_ids))
    }
}

/// One COPY or ADD.
struct Copy<'a> {
    context: &'a Context<'a>,
    instruction: &'a Instruction,
    stage: &'a Stage,
    image: &'a Merged,
    look: Look,
    from_context: bool,
}

impl Copy<'_> {
    fn wrong(&self, why: impl Into<String>) -> Error {
        self.context.wrong(self.instruction, why)
    }

    fn make(&self, source: &Merged, patterns: &[String], target: &str) -> Result<Cached> {
        let workdir = if self.stage.config.working_dir.is_empty() { "/" } else { &self.stage.config.working_dir };
        let real = self.image.real_path(&lexical(&Path::new("/").join(workdir).join(target)))?;
        let is_directory = self.image.look(&real)?.is_some_and(|f| f.is_directory());
        let into = target.ends_with('/') || target == "." || is_directory;
        let mut paths = Vec::new();
        for pattern in patterns {
            paths.extend(self.expand(source, pattern)?);
        }
        let count = paths.len() + self.instruction.heredocs.len();
        if count > 1 && !into {
            return Err(self.wrong(format!("{target}: the destination of several sources must end with /")));
        }
        let mut writer = LayerWriter::new(self.context.builder.store)?;
        let parents = Look { mode: None, ..self.look };
        for path in paths {
            self.one(&mut writer, source, &path, &real, into, parents)?;
        }
        for text in &self.instruction.heredocs {
            let content = if text.expand {
                words::expand(&text.text, self.context.escape, &|n| self.stage.lookup(n)).map_err(|why| self.wrong(why))?
            } else {
                text.text.clone()
            };
            let to = if into { real.join(&text.name) } else { real.clone() };
            writer.directories(self.image, to.parent().unwrap_or(Path::new("")), parents)?;
            writer.text(&to, content.as_bytes(), self.look)?;
        }
        writer.finish()
    }

    fn one(&self, writer: &mut LayerWriter<'_>, source: &Merged, path: &Path, real: &Path, into: bool, parents: Look) -> Result<()> {
        let found = source.look(path)?.ok_or_else(|| self.wrong(format!("{}: not found", path.display())))?;
        let hidden = |path: &Path| {
            if !self.from_context || !self.context.ignored.hides(path) {
                return Hidden::No;
            }
            if self.context.ignored.has_exceptions() { Hidden::Itself } else { Hidden::All }
        };
        if found.is_directory() {
            writer.directories(self.image, real, parents)?;
            for name in source.names(path, &found)? {
                let below = path.join(&name);
                if let Some(inner) = source.look(&below)? {
                    writer.copy(source, &below, &inner, &real.join(&name), self.look, &hidden)?;
                }
            }
            return Ok(());
        }
        if self.instruction.name == "ADD" && self.add_archive(writer, source, path, real, parents)? {
            return Ok(());
        }
        let to = if into { real.join(path.file_name().unwrap_or_default()) } else { real.to_owned() };
        writer.directories(self.image, to.parent().unwrap_or(Path::new("")), parents)?;
        writer.copy(source, path, &found, &to, self.look, &hidden)
    }

    /// Unpacks a tar, if that is what it is.
    fn add_archive(&self, writer: &mut LayerWriter<'_>, source: &Merged, path: &Path, real: &Path, parents: Look) -> Result<bool> {
        let found = source.look(path)?.ok_or_else(|| self.wrong(format!("{}: not found", path.display())))?;
        let mut head = vec![0; 512];
        let is_tar = unpack::decompress(source.file(path, &found)?).and_then(|mut r| std::io::Read::read_exact(&mut r, &mut head));
        if is_tar.is_err() || &head[257..262] != b"ustar" {
            return Ok(false);
        }
        let staged = self.context.builder.store.stage();
        fs::create_dir(&staged.0).map_err(Error::path("make", &staged.0))?;
        unpack::unpack(source.file(path, &found)?, &staged.0)
            .map_err(|e| self.wrong(format!("{}: {}", path.display(), gantry_object::chain(&e))))?;
        let unpacked = Merged::open(std::slice::from_ref(&staged.0))?;
        writer.directories(self.image, real, parents)?;
        let top = unpacked.look(Path::new(""))?.ok_or_else(|| self.wrong("the unpacked archive is gone"))?;
        let chown = self.instruction.flags.iter().any(|(f, _)| f == "chown");
        let look = Look { owner: self.look.owner.filter(|_| chown), mode: self.look.mode };
        for name in unpacked.names(Path::new(""), &top)? {
            if let Some(inner) = unpacked.look(Path::new(&name))? {
                writer.copy(&unpacked, Path::new(&name), &inner, &real.join(&name), look, &|_| Hidden::No)?;
            }
        }
        Ok(true)
    }

    /// The paths a source means: itself, or what fits its pattern. Never outside of where it is taken from.
    fn expand(&self, source: &Merged, pattern: &str) -> Result<Vec<PathBuf>> {
        if Path::new(pattern).components().any(|c| c == std::path::Component::ParentDir) {
            return Err(self.wrong(format!("{pattern}: outside of the build context")));
        }
        let plain = pattern.trim_start_matches('/');
        if !plain.contains(['*', '?', '[']) {
            let real = source.real_path(Path::new(plain))?;
            let hidden = self.from_context && self.context.ignored.hides(&real) && !self.context.ignored.has_exceptions();
            if hidden || source.look(&real)?.is_none() {
                let why = if hidden { "left out by .dockerignore" } else { "not found" };
                return Err(self.wrong(format!("{pattern}: {why}")));
            }
            return Ok(vec![real]);
        }
        let mut found = vec![PathBuf::new()];
        for part in plain.split('/').filter(|p| !p.is_empty() && *p != ".") {
            let mut next = Vec::new();
            for directory in &found {
                let Some(at) = source.look(directory)?.filter(|f| f.is_directory()) else { continue };
                let names = source.names(directory, &at)?;
                next.extend(names.iter().filter(|n| ignore::fits(part, &n.to_string_lossy())).map(|n| directory.join(n)));
            }
            found = next;
        }
        if self.from_context {
            found.retain(|path| !self.context.ignored.hides(path));
        }
        if found.is_empty() { Err(self.wrong(format!("{pattern}: nothing fits"))) } else { Ok(found) }
    }
}

/// The overlay's root shows its upper directory's looks.
fn look_like_top(staged: &Staged, lower: &[PathBuf]) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let Some(top) = lower.first() else { return Ok(()) };
    let upper = staged.0.join("upper");
    let meta = fs::metadata(top).map_err(Error::path("look at", top))?;
    chown(&upper, Some(meta.uid()), Some(meta.gid())).map_err(Error::path("own", &upper))?;
    fs::set_permissions(&upper, meta.permissions()).map_err(Error::path("set mode of", &upper))
}

/// A JSON list of strings, if it is one.
fn json_words(args: &str) -> Option<Vec<String>> {
    if args.starts_with('[') { serde_json::from_str(args).ok() } else { None }
}

fn set_env(env: &mut Vec<String>, key: &str, value: &str) {
    let entry = format!("{key}={value}");
    match env.iter_mut().find(|e| e.split_once('=').is_some_and(|(k, _)| k == key)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// Without `.` and `..`, by names alone.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(plain.pop()),
            std::path::Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// ARGs that have a value without being given one, once they are declared.
fn predefined(name: &str) -> Option<String> {
    match name {
        "TARGETPLATFORM" | "BUILDPLATFORM" => Some(format!("linux/{}", architecture())),
        "TARGETOS" | "BUILDOS" => Some("linux".to_owned()),
        "TARGETARCH" | "BUILDARCH" => Some(architecture().to_owned()),
        _ => None,
    }
}

/// Kept for tools that read it; Kubernetes has probes instead.
fn healthcheck(stage: &Stage, context: &Context<'_>, instruction: &Instruction) -> Result<serde_json::Value> {
    if instruction.args.trim().eq_ignore_ascii_case("none") {
        return Ok(serde_json::json!({ "Test": ["NONE"] }));
    }
    let (word, command) = instruction.args.split_once(char::is_whitespace).unwrap_or((&instruction.args, ""));
    if !word.eq_ignore_ascii_case("cmd") || command.trim().is_empty() {
        return Err(context.wrong(instruction, "it takes NONE or CMD command"));
    }
    let mut check = serde_json::Map::new();
    let test = match json_words(command.trim()) {
        Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect::<Vec<_>>(),
        None => vec!["CMD-SHELL".to_owned(), command.trim().to_owned()],
    };
    check.insert("Test".to_owned(), test.into());
    for (flag, value) in &instruction.flags {
        let value = words::expand(value, context.escape, &|n| stage.lookup(n)).map_err(|why| context.wrong(instruction, why))?;
        let bad = || context.wrong(instruction, format!("--{flag}={value} isn't understood"));
        let (key, number) = match flag.as_str() {
            "interval" => ("Interval", nanoseconds(&value).ok_or_else(bad)?),
            "timeout" => ("Timeout", nanoseconds(&value).ok_or_else(bad)?),
            "start-period" => ("StartPeriod", nanoseconds(&value).ok_or_else(bad)?),
            "start-interval" => ("StartInterval", nanoseconds(&value).ok_or_else(bad)?),
            "retries" => ("Retries", value.parse().map_err(|_| bad())?),
            _ => return Err(context.wrong(instruction, format!("--{flag} isn't known"))),
        };
        check.insert(key.to_owned(), number.into());
    }
    Ok(check.into())
}

/// `1m30s` and the like.
fn nanoseconds(text: &str) -> Option<u64> {
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [("ms", 1_000_000), ("us", 1_000), ("ns", 1), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)];
        let (unit, factor) = units.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total = total.checked_add(number.checked_mul(*factor)?)?;
    }
    (!text.is_empty()).then_some(total)
}
