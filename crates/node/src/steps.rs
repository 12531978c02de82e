//! Performing a pod's steps: volumes, sandbox, containers, hooks, and taking everything away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gantry_containers::{ContainerId, ContainerStatus};
use gantry_object::Timestamp;
use gantry_reconcile::EventKind;
use gantry_volumes::{Need, check_host_path, make_empty_dir, needs, payload, write_payload};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use crate::build;
use crate::environment::{self, environment, service_variables};
use crate::lifecycle::{StopReason, Waiting};
use crate::shared::Shared;
use crate::{files, probe};

/// How long until something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// One pod and what its steps need.
#[derive(Clone)]
pub(crate) struct Steps {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) pod_ips: Vec<String>,
}

/// A container of a pod, init containers included.
pub(crate) fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

impl Steps {
    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or("")
    }

    fn spec_volumes(&self) -> &[Volume] {
        self.pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default()
    }

    fn waiting(&self, reason: &str, message: impl Into<String>) -> Waiting {
        Waiting { reason: reason.into(), message: message.into(), until: self.shared.now().plus(AGAIN) }
    }

    /// Where each volume lies on the host.
    pub(crate) fn volume_paths(&self) -> BTreeMap<String, PathBuf> {
        let directory = self.shared.pod_directory(self.uid()).join("volumes");
        let path = |v: &Volume| match &v.host_path {
            Some(host) => self.shared.config.host_root.join(host.path.trim_start_matches('/')),
            None => directory.join(&v.name),
        };
        self.spec_volumes().iter().map(|v| (v.name.clone(), path(v))).collect()
    }

    /// Makes the volumes, or brings those made of objects up to date.
    pub(crate) async fn prepare_volumes(&self) -> Result<(), Waiting> {
        let all: BTreeSet<Need> = self.spec_volumes().iter().flat_map(needs).collect();
        let fetched = self.shared.fetch(&self.pod, all).await;
        let outcome = match fetched {
            Ok(fetched) => {
                let steps = self.clone();
                self.shared.tasks.blocking(move || steps.write_volumes(&fetched)).await
            }
            Err(status) => Err(status.message),
        };
        if let Err(why) = outcome {
            self.shared.event(&self.pod, EventKind::Warning, "FailedMount", why.clone());
            return Err(self.waiting("ContainerCreating", why));
        }
        Ok(())
    }

    fn write_volumes(&self, fetched: &gantry_volumes::Fetched) -> Result<(), String> {
        let paths = self.volume_paths();
        let group = self.pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.fs_group).map(|g| g as u32);
        let facts = self.shared.facts(&self.pod_ips);
        let failed = |volume: &Volume, e: &dyn std::fmt::Display| format!("MountVolume.SetUp failed for volume {:?} : {e}", volume.name);
        for volume in self.spec_volumes() {
            let path = &paths[&volume.name];
            let files = payload(volume, &self.pod, &facts, fetched).map_err(|e| failed(volume, &e))?;
            if let Some(files) = files {
                let version = self.shared.now().0.unsigned_abs();
                write_payload(path, &files, group, version).map_err(|e| failed(volume, &e))?;
            } else if let Some(source) = &volume.empty_dir {
                let memory = source.medium.as_deref() == Some("Memory");
                let size = source.size_limit.as_ref().and_then(|s| s.0.parse::<gantry_object::Quantity>().ok()).map(|q| q.value());
                make_empty_dir(path, group, memory, size).map_err(|e| failed(volume, &e))?;
            } else if let Some(source) = &volume.host_path {
                check_host_path(path, source.type_.as_deref().unwrap_or("")).map_err(|e| failed(volume, &e))?;
            } else {
                return Err(failed(volume, &"this kind of volume is not supported yet"));
            }
        }
        Ok(())
    }

    /// Makes network and sandbox; gives the pod's addresses.
    pub(crate) async fn start_sandbox(&self) -> Result<Vec<String>, Waiting> {
        let host_network = self.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let link = match host_network {
            true => None,
            false => {
                let (network, uid) = (self.shared.network.clone(), self.uid().to_owned());
                let attached = self.shared.tasks.blocking(move || network.attach(&uid)).await;
                Some(self.or_sandbox_event(attached).await?)
            }
        };
        let ips = link.as_ref().map_or_else(|| self.shared.host_ips(), |l| l.addresses.clone());
        let written = files::write(&self.shared, &self.pod, &ips).map_err(|e| e.to_string());
        self.or_sandbox_event(written).await?;
        let logs = self.shared.log_directory(&self.pod);
        let config = build::sandbox(&self.shared.config, &self.pod, link.map(|l| l.namespace), logs);
        let made = self.shared.runtime.run_sandbox(&config).await.map_err(|e| gantry_object::chain(&e));
        self.or_sandbox_event(made).await?;
        Ok(ips)
    }

    async fn or_sandbox_event<T>(&self, result: Result<T, String>) -> Result<T, Waiting> {
        match result {
            Ok(value) => Ok(value),
            Err(why) => {
                let message = format!("Failed to create pod sandbox: {why}");
                self.shared.event(&self.pod, EventKind::Warning, "FailedCreatePodSandBox", message.clone());
                Err(self.waiting("ContainerCreating", message))
            }
        }
    }

    /// Pulls the image if need be, makes the container, starts it and runs its hook.
    pub(crate) async fn start_container(&self, name: &str, attempt: u32) -> Result<Option<Box<ContainerStatus>>, Waiting> {
        let Some(container) = find_container(&self.pod, name) else {
            return Err(self.waiting("CreateContainerConfigError", "no such container"));
        };
        let image = self.image(container).await?;
        let config = self.container_config(container, attempt, &image).await;
        let config = match config {
            Ok(config) => config,
            Err(why) => {
                self.shared.event(&self.pod, EventKind::Warning, "Failed", format!("Error: {why}"));
                return Err(self.waiting("CreateContainerConfigError", why));
            }
        };
        let created = self.shared.runtime.create_container(self.uid(), &config).await;
        let id = match created {
            Ok(id) => id,
            Err(error) => {
                let why = gantry_object::chain(&error);
                self.shared.event(&self.pod, EventKind::Warning, "Failed", format!("Error: {why}"));
                return Err(self.waiting("CreateContainerError", why));
            }
        };
        self.shared.event(&self.pod, EventKind::Normal, "Created", format!("Container created: {name}"));
        if let Err(error) = self.shared.runtime.start_container(&id).await {
            // The runtime keeps it as ended with StartError, and the restart policy decides.
            self.shared.event(&self.pod, EventKind::Warning, "Failed", format!("Error: {}", gantry_object::chain(&error)));
            return Ok(self.shared.runtime.container_status(&id).await.ok().map(Box::new));
        }
        self.shared.event(&self.pod, EventKind::Normal, "Started", format!("Container started: {name}"));
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.clone());
        if let Some(hook) = hook
            && let Err(why) = probe::run_hook(&self.shared, &self.pod_ips, container, &id, &hook, None).await
        {
            self.shared.event(&self.pod, EventKind::Warning, "FailedPostStartHook", format!("PostStartHook failed: {why}"));
            // A container whose hook failed is ended; the restart policy decides what follows.
            let _ = self.shared.runtime.stop_container(&id, Duration::from_secs(2)).await;
        }
        Ok(self.shared.runtime.container_status(&id).await.ok().map(Box::new))
    }

    async fn image(&self, container: &Container) -> Result<crate::shared::ReadyImage, Waiting> {
        let name = container.image.clone().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        let secrets = self.pod.spec.iter().filter_map(|s| s.image_pull_secrets.as_ref()).flatten();
        let needs: Vec<Need> = secrets.map(|s| Need::Secret(s.name.clone())).collect();
        let fetched = self.shared.fetch(&self.pod, needs).await.unwrap_or_default();
        let texts = fetched.secrets.values().flatten().filter_map(|s| s.data.as_ref()?.get(".dockerconfigjson").cloned());
        let credentials: Vec<String> = texts.map(|b| String::from_utf8_lossy(&b.0).into_owned()).collect();
        let holder = format!("{}_{}", self.uid(), container.name);
        match self.shared.images.ensure(&holder, &name, policy, &credentials).await {
            Ok(image) => {
                let message = match image.pulled {
                    true => format!("Successfully pulled image {name:?}"),
                    false => format!("Container image {name:?} already present on machine"),
                };
                self.shared.event(&self.pod, EventKind::Normal, "Pulled", message);
                Ok(image)
            }
            Err(error) => {
                let message = format!("Failed to pull image {name:?}: {}", error.message);
                self.shared.event(&self.pod, EventKind::Warning, "Failed", message.clone());
                Err(self.waiting(error.reason, message))
            }
        }
    }

    async fn container_config(
        &self,
        container: &Container,
        attempt: u32,
        image: &crate::shared::ReadyImage,
    ) -> Result<gantry_containers::ContainerConfig, String> {
        let fetched = self.shared.fetch(&self.pod, environment::needs(container)).await.map_err(|s| s.message)?;
        let facts = self.shared.facts(&self.pod_ips);
        let base = service_variables(&self.service_links());
        let variables = environment(&self.pod, container, base, &facts, &fetched).map_err(|e| e.to_string())?;
        let directory = self.shared.pod_directory(self.uid());
        let log = build::termination_log(&directory, &container.name);
        let made = log.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&log, ""));
        made.map_err(|e| format!("making {}: {e}", log.display()))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&log, open).map_err(|e| format!("opening {}: {e}", log.display()))?;
        let surroundings = build::Surroundings {
            image: &image.spec,
            image_user: &image.user,
            environment: &variables,
            directory: &directory,
            volumes: &self.volume_paths(),
        };
        build::container(&self.shared.config, &self.pod, container, attempt, &surroundings)
    }

    /// The services that the pod's environment tells: those of its namespace unless it says no, and always the API server's.
    fn service_links(&self) -> Vec<environment::ServiceLink> {
        let services = self.shared.services.lock().expect("nothing panics while it holds this lock");
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("");
        let all = self.pod.spec.as_ref().and_then(|s| s.enable_service_links) != Some(false);
        let kubernetes = services.get("default").into_iter().flatten().filter(|s| s.name == "kubernetes");
        let own = services.get(namespace).into_iter().flatten().filter(|s| all && s.name != "kubernetes");
        kubernetes.chain(own).cloned().collect()
    }

    /// Runs the hook that comes before the end, then ends the container within its grace.
    pub(crate) async fn stop_container(&self, id: &ContainerId, name: &str, grace: Duration, reason: StopReason) {
        let message = match reason {
            StopReason::PodEnds => format!("Stopping container {name}"),
            StopReason::Unhealthy => format!("Container {name} failed liveness probe, will be restarted"),
            StopReason::NeverStarted => format!("Container {name} failed startup probe, will be restarted"),
        };
        self.shared.event(&self.pod, EventKind::Normal, "Killing", message);
        let begun = self.shared.clock.monotonic();
        let container = find_container(&self.pod, name);
        let hook = container.and_then(|c| c.lifecycle.as_ref()).and_then(|l| l.pre_stop.clone());
        if let (Some(container), Some(hook)) = (container, hook.filter(|_| !grace.is_zero())) {
            let ran = probe::run_hook(&self.shared, &self.pod_ips, container, id, &hook, Some(grace)).await;
            if let Err(why) = ran {
                self.shared.event(&self.pod, EventKind::Warning, "FailedPreStopHook", format!("PreStopHook failed: {why}"));
            }
        }
        // The hook's time counts, but there is always a moment left to end in.
        let spent = self.shared.clock.monotonic().saturating_sub(begun);
        let left = if grace.is_zero() { grace } else { grace.saturating_sub(spent).max(Duration::from_secs(2).min(grace)) };
        if let Err(error) = self.shared.runtime.stop_container(id, left).await {
            tracing::warn!(container = %id, error = gantry_object::chain(&error), "stopping a container");
        }
    }

    /// Ends the sandbox and takes network and volumes away; containers' statuses and logs stay.
    pub(crate) async fn tear_down(&self) -> Result<(), String> {
        self.shared.runtime.stop_sandbox(self.uid()).await.map_err(|e| gantry_object::chain(&e))?;
        self.release().await
    }

    /// Removes what is left of the sandbox.
    pub(crate) async fn remove_sandbox(&self) -> Result<(), String> {
        self.shared.runtime.remove_sandbox(self.uid()).await.map_err(|e| gantry_object::chain(&e))
    }

    async fn release(&self) -> Result<(), String> {
        let (network, uid) = (self.shared.network.clone(), self.uid().to_owned());
        let volumes = self.shared.pod_directory(&uid).join("volumes");
        self.shared
            .tasks
            .blocking(move || {
                network.detach(&uid)?;
                gantry_volumes::remove_volumes(&volumes).map_err(|e| format!("removing {}: {e}", volumes.display()))
            })
            .await
    }

    /// Removes every trace of the pod from the node: a deleted pod's last files and logs.
    pub(crate) async fn erase(&self) -> Result<(), String> {
        self.remove_sandbox().await?;
        self.release().await?;
        self.shared.images.release(self.uid()).await;
        let (directory, logs) = (self.shared.pod_directory(self.uid()), self.shared.log_directory(&self.pod));
        let uid = self.uid().to_owned();
        self.shared.tokens.lock().expect("nothing panics while it holds this lock").retain(|(pod, _, _), _| *pod != uid);
        self.shared
            .tasks
            .blocking(move || {
                for path in [directory, logs] {
                    match std::fs::remove_dir_all(&path) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(format!("removing {}: {e}", path.display())),
                        _ => {}
                    }
                }
                Ok(())
            })
            .await
    }

    /// What a container that ended left as its last words.
    pub(crate) fn last_words(&self, status: &ContainerStatus) -> String {
        let path = build::termination_log(&self.shared.pod_directory(self.uid()), &status.name);
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..text.len().min(4096)]).into_owned();
        let container = find_container(&self.pod, &status.name);
        let falls_back = container.and_then(|c| c.termination_message_policy.as_deref()) == Some("FallbackToLogsOnError");
        if text.is_empty() && falls_back && status.exit_code != Some(0) {
            let log = status.log_path.as_ref().map(|p| crate::logs::tail(p, 80, 2048));
            return log.unwrap_or_default();
        }
        text
    }

    /// When volumes made of objects are looked at again.
    pub(crate) fn refreshes_volumes(&self) -> Option<Timestamp> {
        let any = self.spec_volumes().iter().any(|v| !needs(v).is_empty() || v.downward_api.is_some());
        any.then(|| self.shared.now().plus(REFRESH))
    }
}

/// How often volumes made of objects are looked at again.
const REFRESH: Duration = Duration::from_secs(30);
