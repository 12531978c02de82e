//! An object as bytes, shared by everyone who holds it.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;

/// A point in a store's history. Revisions grow, may have gaps, and start above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An object's canonical JSON **without** its resourceVersion, the place where that belongs, and the revision that wrote it.
///
/// The revision is known only at commit, so it is spliced in when the object is sent. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The JSON without `metadata.resourceVersion`.
    pub body: Bytes,
    /// Where in `body` the resourceVersion member goes: just after the opening brace of `metadata`, which is never empty.
    pub splice: u32,
    /// The revision that wrote this version of the object.
    pub revision: Revision,
}

impl Encoded {
    /// The member spliced in at `splice`, with the comma that follows it.
    pub fn resource_version_member(&self) -> String {
        format!("\"resourceVersion\":\"{}\",", self.revision)
    }

    /// The three parts to send, in order: prefix, resourceVersion member, suffix.
    pub fn parts(&self) -> (Bytes, String, Bytes) {
        let at = self.splice as usize;
        (self.body.slice(..at), self.resource_version_member(), self.body.slice(at..))
    }

    /// Appends the whole JSON, resourceVersion included.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let at = self.splice as usize;
        out.extend_from_slice(&self.body[..at]);
        out.extend_from_slice(self.resource_version_member().as_bytes());
        out.extend_from_slice(&self.body[at..]);
    }

    /// How many bytes [`Encoded::write_json`] appends.
    pub fn json_len(&self) -> usize {
        let digits = self.revision.0.checked_ilog10().map_or(1, |log| log as usize + 1);
        self.body.len() + "\"resourceVersion\":\"\",".len() + digits
    }

    /// The whole JSON, resourceVersion included.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 48);
        self.write_json(&mut out);
        out
    }

    /// Decodes a typed, read-only view.
    ///
    /// # Errors
    /// When the JSON does not have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.to_json())
    }

    /// Decodes the metadata alone, without its resourceVersion; nothing behind it is read.
    ///
    /// # Errors
    /// When the metadata does not have the shape of `T`.
    pub fn decode_metadata<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        let from = (self.splice as usize).saturating_sub(1).min(self.body.len());
        T::deserialize(&mut serde_json::Deserializer::from_slice(&self.body[from..]))
    }

    /// Takes an object's tree, removes its resourceVersion, and encodes it. The revision is the store's to say.
    ///
    /// # Panics
    /// When `metadata` is not an object with at least one other member; the API server ensures it before.
    pub fn from_value(mut value: crate::Value, revision: Revision) -> Self {
        let meta = value.get_mut("metadata").and_then(crate::Value::as_object_mut).expect("an object to be stored has metadata");
        meta.remove("resourceVersion");
        assert!(!meta.is_empty(), "an object to be stored has a name");
        let members = value.as_object().expect("an object to be stored is a JSON object");
        let mut body = Vec::with_capacity(512);
        let mut splice = 0;
        body.push(b'{');
        for (i, (name, member)) in members.iter().enumerate() {
            if i > 0 {
                body.push(b',');
            }
            serde_json::to_writer(&mut body, name).expect("writing to memory cannot fail");
            body.push(b':');
            if name == "metadata" {
                splice = body.len() + 1;
            }
            serde_json::to_writer(&mut body, member).expect("writing to memory cannot fail");
        }
        body.push(b'}');
        // Objects stay; what was reserved beyond their end would stay with them.
        body.shrink_to_fit();
        Self { body: Bytes::from(body), splice: splice as u32, revision }
    }

    /// Takes whole JSON as another server sent it, resourceVersion included.
    ///
    /// # Errors
    /// When the bytes are not a JSON object with metadata, or its resourceVersion is not a number.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        use serde::de::Error;
        let value: crate::Value = serde_json::from_slice(json)?;
        let meta = value.get("metadata").and_then(crate::Value::as_object).filter(|m| m.keys().any(|k| k != "resourceVersion"));
        let Some(meta) = meta else { return Err(serde_json::Error::custom("object has no metadata")) };
        let revision = meta.get("resourceVersion").and_then(crate::Value::as_str).unwrap_or("0");
        let revision = revision.parse().map_err(|_| serde_json::Error::custom("resourceVersion is not a number"))?;
        Ok(Self::from_value(value, Revision(revision)))
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded@{}({})", self.revision, String::from_utf8_lossy(&self.body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_spliced_into_metadata() {
        let value = serde_json::json!({"apiVersion":"v1","kind":"X","metadata":{"name":"a","resourceVersion":"3"},"a":1});
        let object = Encoded::from_value(value, Revision(7));
        let back: crate::Value = serde_json::from_slice(&object.to_json()).expect("valid JSON");
        assert_eq!(back, serde_json::json!({"apiVersion":"v1","kind":"X","metadata":{"name":"a","resourceVersion":"7"},"a":1}));
        assert!(!String::from_utf8_lossy(&object.body).contains("resourceVersion"));
        assert_eq!(Encoded::from_json(&object.to_json()).expect("valid"), object);
        let metadata: crate::Value = object.decode_metadata().expect("metadata");
        assert_eq!(metadata, serde_json::json!({"name":"a"}));
        for revision in [0, 9, 10, 12_345, u64::MAX] {
            let object = Encoded { revision: Revision(revision), ..object.clone() };
            assert_eq!(object.json_len(), object.to_json().len());
        }
    }
}
