//! Where an object lives in the store.

use std::fmt;
use std::sync::Arc;

use gantry_object::ObjectName;

/// The resource and name of an object. Keys of one resource sort as their `namespace/name` bytes do, which is upstream's list order.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    resource: Arc<str>,
    path: Arc<str>,
}

impl Key {
    /// Names an object. `resource` is any string that is unique to the group and plural name, for example `deployments.apps`;
    /// `namespace` is empty for cluster-wide objects.
    pub fn new(resource: impl Into<Arc<str>>, namespace: &str, name: &str) -> Self {
        let path = if namespace.is_empty() { name.into() } else { format!("{namespace}/{name}").into() };
        Self { resource: resource.into(), path }
    }

    pub(crate) fn from_path(resource: Arc<str>, path: Arc<str>) -> Self {
        Self { resource, path }
    }

    /// The resource it belongs to.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    pub(crate) fn resource_arc(&self) -> &Arc<str> {
        &self.resource
    }

    /// `namespace/name`, or the name alone.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn path_arc(&self) -> &Arc<str> {
        &self.path
    }

    /// The namespace, empty for cluster-wide objects.
    pub fn namespace(&self) -> &str {
        split(&self.path).0
    }

    /// The name.
    pub fn name(&self) -> &str {
        split(&self.path).1
    }

    /// Namespace and name, owned.
    pub fn object_name(&self) -> ObjectName {
        ObjectName::new(self.namespace(), self.name())
    }
}

/// Splits a path into namespace and name. Names never hold a slash.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or(("", path))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.path)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
