//! Images from Dockerfiles.
//!
//! Stages are built in order, those that the target doesn't need are passed over. A layer that copies is its own cache,
//! since the same content gives the same bytes; commands' layers are remembered by all that they depend on.

mod ignore;
mod layer;
mod merged;
mod parse;
mod run;
mod stage;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::document::{History, ImageConfig};
use crate::registry::Registries;
use crate::store::Store;
use crate::{Error, Image, Reference, Result};
use parse::{Dockerfile, Instruction};
pub use run::Runner;
use stage::{Base, Stage};

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The directory that COPY and ADD take from.
    pub context: PathBuf,
    /// `Dockerfile` in the context if not given.
    pub dockerfile: Option<PathBuf>,
    /// Values for ARG.
    pub build_args: BTreeMap<String, String>,
    /// The stage to build; the last if not given.
    pub target: Option<String>,
    /// Names for the result; none leaves it to be found by its id until the next collection.
    pub names: Vec<Reference>,
    /// Whether all commands are run again.
    pub no_cache: bool,
}

/// Builders with what they need.
pub struct Builder<'a> {
    /// Where base images come from and the result goes.
    pub store: &'a Arc<Store>,
    /// For RUN; a Dockerfile that has one fails without.
    pub runner: Option<Runner<'a>>,
    /// For base images that aren't here; without, they must be.
    pub registries: Option<&'a Registries>,
    /// Told of each step, and what commands say.
    pub progress: &'a (dyn Fn(&str) + Send + Sync),
}

/// What a whole build knows.
pub(crate) struct Context<'a> {
    pub(crate) builder: &'a Builder<'a>,
    pub(crate) options: &'a BuildOptions,
    pub(crate) file: String,
    pub(crate) escape: char,
    pub(crate) ignored: ignore::Ignored,
    /// ARGs before the first FROM.
    pub(crate) global: BTreeMap<String, String>,
    /// Finished stages, by number.
    pub(crate) stages: BTreeMap<usize, Stage>,
    /// Numbers of stages by name.
    pub(crate) names: BTreeMap<String, usize>,
}

impl Context<'_> {
    pub(crate) fn wrong(&self, instruction: &Instruction, why: impl Into<String>) -> Error {
        self.wrong_at(instruction.line, &instruction.name, why)
    }

    fn wrong_at(&self, line: usize, name: &str, why: impl Into<String>) -> Error {
        Error::Dockerfile { file: self.file.clone(), line, instruction: name.to_owned(), why: why.into() }
    }

    /// The number of a stage by name or number, of those before `below`.
    pub(crate) fn stage_number(&self, name: &str, below: usize) -> Option<usize> {
        let number = self.names.get(&name.to_ascii_lowercase()).copied().or_else(|| name.parse().ok());
        number.filter(|n| *n < below)
    }
}

impl Builder<'_> {
    /// Builds an image. Blocks its task for as long as files are copied.
    ///
    /// # Errors
    /// `Dockerfile` names file, line and instruction; a command's failure carries the end of what it said.
    pub async fn build(&self, options: &BuildOptions) -> Result<Image> {
        let _adding = self.store.adding()?;
        let result = self.build_image(options).await;
        if let Some(runner) = &self.runner {
            let closed = runner.close().await;
            // What failed first is what to tell.
            if result.is_ok() {
                closed?;
            }
        }
        result
    }

    async fn build_image(&self, options: &BuildOptions) -> Result<Image> {
        let path = options.dockerfile.clone().unwrap_or_else(|| options.context.join("Dockerfile"));
        let text = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
        let file = path.file_name().map_or_else(|| "Dockerfile".to_owned(), |n| n.to_string_lossy().into_owned());
        let ignored = fs::read_to_string(path.with_file_name(format!("{file}.dockerignore")))
            .or_else(|_| fs::read_to_string(options.context.join(".dockerignore")))
            .unwrap_or_default();
        let mut context = Context {
            builder: self,
            options,
            file,
            escape: '\\',
            ignored: ignore::Ignored::parse(&ignored),
            global: BTreeMap::new(),
            stages: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        let Dockerfile { instructions, escape } = parse::parse(&text).map_err(|(line, name, why)| context.wrong_at(line, &name, why))?;
        context.escape = escape;
        let stages = split_stages(&mut context, instructions)?;
        let target = match &options.target {
            Some(name) => context
                .stage_number(name, stages.len())
                .ok_or_else(|| context.wrong_at(1, "FROM", format!("there is no stage {name:?}")))?,
            None => stages.len() - 1,
        };
        let needed = needed(&context, &stages, target);
        for (number, instructions) in stages.iter().enumerate().filter(|(n, _)| needed.contains(n)) {
            let stage = self.build_stage(&context, number, instructions).await?;
            context.stages.insert(number, stage);
        }
        let stage = context.stages.remove(&target).ok_or_else(|| context.wrong_at(1, "FROM", "the stage was not built"))?;
        let config = ImageConfig { config: stage.config, history: stage.history, ..ImageConfig::default() };
        let manifest = self.store.add_image(config, stage.layers, stage.diff_ids)?;
        self.store.complete(&manifest)?;
        for name in &options.names {
            self.store.set_name(name, &manifest, None)?;
        }
        Image::new(&manifest, &self.store.parse("manifest", &manifest)?, &self.store.names_of(&manifest)?)
    }

    async fn build_stage(&self, context: &Context<'_>, number: usize, instructions: &[Instruction]) -> Result<Stage> {
        let Some((from, rest)) = instructions.split_first() else { return Err(context.wrong_at(1, "FROM", "an empty stage")) };
        let named = context.names.iter().find(|(_, stage)| **stage == number).map(|(name, _)| format!("{name} "));
        let step = |step: usize, instruction: &Instruction| {
            let stage = named.as_deref().unwrap_or("");
            (self.progress)(&format!("[{stage}{step}/{}] {} {}", instructions.len(), instruction.name, instruction.args));
        };
        step(1, from);
        let mut stage = self.base(context, number, from).await?;
        let triggers = stage.config.on_build.take().unwrap_or_default();
        for trigger in &triggers {
            let instruction = parse::parse_line(trigger, from.line).map_err(|(line, name, why)| context.wrong_at(line, &name, why))?;
            stage.apply(context, number, &instruction).await?;
        }
        for (number_in_stage, instruction) in rest.iter().enumerate() {
            step(number_in_stage + 2, instruction);
            stage.apply(context, number, instruction).await?;
        }
        Ok(stage)
    }

    /// What FROM names: nothing, an earlier stage, or an image.
    async fn base(&self, context: &Context<'_>, number: usize, from: &Instruction) -> Result<Stage> {
        let (image, _) = from_words(context, from)?;
        if image == "scratch" {
            return Ok(Stage::new(Base::default()));
        }
        if let Some(stage) = context.stage_number(&image, number).and_then(|n| context.stages.get(&n)) {
            return Ok(stage.continued());
        }
        let (config, layers) = self.image(&image).await.map_err(|e| context.wrong(from, gantry_object::chain(&e)))?;
        Ok(Stage::new(Base { config: config.config, layers, diff_ids: config.rootfs.diff_ids, history: config.history }))
    }

    /// An image's configuration and layers; pulled if it isn't here.
    pub(crate) async fn image(&self, name: &str) -> Result<(ImageConfig, Vec<crate::document::Descriptor>)> {
        let found = match (self.store.find(name), self.registries) {
            (Err(Error::NotFound(_)), Some(registries)) => registries.pull(self.store, &Reference::parse(name)?, None).await?,
            (found, _) => found?,
        };
        let manifest: crate::document::Manifest = self.store.parse("manifest", &found.manifest)?;
        Ok((self.store.complete(&found.manifest)?, manifest.layers))
    }
}

/// The image and the stage's name of a FROM.
fn from_words(context: &Context<'_>, from: &Instruction) -> Result<(String, Option<String>)> {
    let lookup = |name: &str| context.global.get(name).cloned();
    let words = words::words(&from.args, context.escape, &lookup).map_err(|why| context.wrong(from, why))?;
    for (flag, _) in &from.flags {
        if flag != "platform" {
            return Err(context.wrong(from, format!("--{flag} isn't known")));
        }
    }
    match words.as_slice() {
        [image] if !image.is_empty() => Ok((image.clone(), None)),
        [image, word, name] if word.eq_ignore_ascii_case("as") && !image.is_empty() => Ok((image.clone(), Some(name.to_ascii_lowercase()))),
        _ => Err(context.wrong(from, "it takes IMAGE or IMAGE AS NAME")),
    }
}

/// Parts the instructions at each FROM, taking the ARGs before the first.
fn split_stages(context: &mut Context<'_>, instructions: Vec<Instruction>) -> Result<Vec<Vec<Instruction>>> {
    let mut stages: Vec<Vec<Instruction>> = Vec::new();
    for instruction in instructions {
        match instruction.name.as_str() {
            "FROM" => {
                if let Some(name) = from_words(context, &instruction)?.1 {
                    context.names.insert(name, stages.len());
                }
                stages.push(vec![instruction]);
            }
            "ARG" if stages.is_empty() => {
                let lookup = |name: &str| context.global.get(name).cloned();
                let words = words::words(&instruction.args, context.escape, &lookup).map_err(|why| context.wrong(&instruction, why))?;
                for word in words {
                    let (name, default) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v.to_owned())));
                    if let Some(value) = context.options.build_args.get(name).cloned().or(default) {
                        context.global.insert(name.to_owned(), value);
                    }
                }
            }
            _ => match stages.last_mut() {
                Some(stage) => stage.push(instruction),
                None => return Err(context.wrong(&instruction, "the first instruction must be FROM or ARG")),
            },
        }
    }
    if stages.is_empty() { Err(context.wrong_at(1, "FROM", "there is no FROM")) } else { Ok(stages) }
}

/// The target and all stages it takes something from.
fn needed(context: &Context<'_>, stages: &[Vec<Instruction>], target: usize) -> BTreeSet<usize> {
    let (mut needed, mut todo) = (BTreeSet::new(), vec![target]);
    while let Some(number) = todo.pop() {
        if !needed.insert(number) {
            continue;
        }
        for instruction in &stages[number] {
            if instruction.name == "FROM"
                && let Ok((image, _)) = from_words(context, instruction)
            {
                todo.extend(context.stage_number(&image, number));
            }
            let from = instruction.flags.iter().find(|(k, _)| k == "from" && instruction.name != "FROM");
            todo.extend(from.and_then(|(_, v)| context.stage_number(v, number)));
        }
    }
    needed
}

/// A line of an image's history.
pub(crate) fn history(instruction: &Instruction, empty_layer: bool) -> History {
    History { created: None, created_by: Some(format!("{} {}", instruction.name, instruction.args)), empty_layer }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ignore, parse, words};

    proptest! {
        #[test]
        fn whatever_is_given_is_read_or_refused(text in "(FROM|RUN|COPY|ENV|#|<<E|E|[ \\\\\n`$\\{}:\"'=-]|[a-z*?\\[\\]]){0,60}") {
            if let Ok(file) = parse::parse(&text) {
                for i in &file.instructions {
                    prop_assert!(i.line >= 1 && i.line <= text.lines().count());
                }
            }
            let _ = words::words(&text, '\\', &|n| Some(n.to_owned()));
            let _ = words::expand(&text, '\\', &|_| None);
            let (pattern, path) = text.split_at(text.len() / 2);
            let _ = ignore::fits(pattern, path);
        }

        #[test]
        fn text_without_anything_special_is_itself(word in "[a-zA-Z0-9_./:=-]{1,30}") {
            prop_assert_eq!(words::words(&word, '\\', &|_| None).unwrap(), vec![word.clone()]);
            prop_assert_eq!(words::expand(&word, '\\', &|_| None).unwrap(), word.clone());
            prop_assert!(ignore::fits(&word, &word));
        }
    }
}
