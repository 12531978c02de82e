//! What a client can read.

use gantry_kinds::{IncludeObject, Kind};
use gantry_object::Status;

/// An encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What an object is shown as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Itself.
    #[default]
    Object,
    /// Rows of a table.
    Table(IncludeObject),
    /// Its metadata alone.
    Partial,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) format: Format,
    pub(crate) shape: Shape,
    /// Whether large answers may be compressed.
    pub(crate) gzip: bool,
}

/// One alternative of an Accept header.
pub(crate) struct Alternative<'a> {
    pub(crate) media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Alternative<'a> {
    /// The alternatives of a header, the client's favourite first.
    pub(crate) fn all(header: &'a str) -> Vec<Self> {
        let mut all: Vec<(f32, Self)> = header
            .split(',')
            .map(|text| {
                let mut parts = text.split(';').map(str::trim);
                let media_type = parts.next().unwrap_or("");
                let parameters: Vec<_> = parts.filter_map(|p| p.split_once('=')).collect();
                let q = parameters.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok()).unwrap_or(1.0);
                (q, Self { media_type, parameters })
            })
            .filter(|(q, a)| *q > 0.0 && !a.media_type.is_empty())
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.into_iter().map(|(_, a)| a).collect()
    }

    /// A parameter of the media type, empty when not given.
    pub(crate) fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(k, _)| *k == name).map_or("", |(_, v)| v)
    }
}

impl Accept {
    /// Whether the stored bytes can be sent as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.format == Format::Json && self.shape == Shape::Object
    }

    /// The same, with what the client can unpack.
    pub(crate) fn with_encoding(self, header: &str) -> Self {
        Self { gzip: Alternative::all(header).iter().any(|a| a.media_type == "gzip"), ..self }
    }

    /// The first alternative that this server can give of a kind, or of what is none. No header: JSON.
    /// Custom resources have no protobuf form, but their tables and metadata have. What cannot be read, as reviews cannot, has neither.
    pub(crate) fn negotiate(header: &str, include: IncludeObject, kind: Option<&Kind>) -> Result<Self, Status> {
        let is_custom = kind.is_some_and(Kind::is_custom);
        let is_object = kind.is_none_or(|k| k.verbs.iter().any(|verb| verb == "get"));
        if header.trim().is_empty() {
            return Ok(Self::default());
        }
        for alternative in Alternative::all(header) {
            let format = match alternative.media_type {
                "application/json" | "*/*" | "application/*" => Format::Json,
                "application/yaml" => Format::Yaml,
                "application/vnd.kubernetes.protobuf" => Format::Protobuf,
                _ => continue,
            };
            let is_meta = alternative.parameter("g") == "meta.k8s.io" && alternative.parameter("v") == "v1";
            let shape = match alternative.parameter("as") {
                "" => Shape::Object,
                "Table" if is_meta && is_object => Shape::Table(include),
                "PartialObjectMetadata" | "PartialObjectMetadataList" if is_meta && is_object => Shape::Partial,
                _ => continue,
            };
            if is_custom && format == Format::Protobuf && shape == Shape::Object {
                continue;
            }
            return Ok(Self { format, shape, gzip: false });
        }
        if is_custom {
            return Err(Status::not_acceptable("only the following media types are accepted: application/json, application/yaml"));
        }
        Err(Status::not_acceptable(
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_readable_alternative_wins() {
        let cases = [
            ("", Some((Format::Json, false))),
            ("*/*", Some((Format::Json, false))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some((Format::Json, true)),
            ),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Some((Format::Json, false))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Format::Protobuf, false))),
            ("application/json;q=0.5, application/yaml", Some((Format::Yaml, false))),
            ("text/html", None),
        ];
        for (header, expected) in cases {
            let found = Accept::negotiate(header, IncludeObject::Metadata, None).ok();
            assert_eq!(found.map(|a| (a.format, a.shape != Shape::Object)), expected, "{header}");
        }
    }
}
