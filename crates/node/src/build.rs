//! What the runtime is asked to make of a pod and its containers. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gantry_containers::{
    ContainerConfig, Mount, MountKind, NetworkNamespace, PidNamespace, Propagation, Resources, Rootfs, SandboxConfig, Seccomp,
    SecurityContext, StdioConfig,
};
use gantry_images::{ImageSpec, User};
use gantry_object::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, SeccompProfile};

use crate::config::AgentConfig;
use crate::environment::expand;

/// The label of a sandbox that says which version of the pod's identity it belongs to.
const PERIOD: i64 = 100_000;

/// What must be known beside the pod itself.
pub(crate) struct Surroundings<'a> {
    /// The image.
    pub(crate) image: &'a ImageSpec,
    /// Whom the image runs as.
    pub(crate) image_user: &'a User,
    /// What the container sets itself; the image's own variables come under it.
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// The pod's directory.
    pub(crate) directory: &'a Path,
    /// Its volumes by name, as paths on the host.
    pub(crate) volumes: &'a BTreeMap<String, PathBuf>,
}

fn milli(resources: &ResourceRequirements, limits: bool, what: &str) -> Option<i64> {
    let list = if limits { &resources.limits } else { &resources.requests };
    list.as_ref()?.get(what)?.0.parse::<Quantity>().ok().map(Quantity::milli_value)
}

/// CPU and memory as a cgroup has them.
pub(crate) fn resources(given: &ResourceRequirements) -> Resources {
    let request = milli(given, false, "cpu").or_else(|| milli(given, true, "cpu")).unwrap_or(0);
    let shares = (request.max(0).unsigned_abs() * 1024 / 1000).clamp(2, 262_144);
    let limit = milli(given, true, "cpu").filter(|m| *m > 0);
    Resources {
        cpu_shares: Some(shares),
        cpu_quota: limit.map(|m| (m * PERIOD / 1000).max(1000)),
        cpu_period: limit.map(|_| PERIOD.unsigned_abs()),
        memory_limit: milli(given, true, "memory").filter(|m| *m > 0).map(|m| m / 1000),
        ..Resources::default()
    }
}

/// The pod's quality of service, in lower case as cgroups are named.
fn qos(pod: &Pod) -> &'static str {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => "guaranteed",
        Some("BestEffort") => "besteffort",
        _ => "burstable",
    }
}

/// How soon the kernel ends a container when memory runs out.
fn oom_score(pod: &Pod, container: &Container, node_memory: i64) -> i32 {
    match qos(pod) {
        "guaranteed" => -997,
        "besteffort" => 1000,
        _ => {
            let request = container.resources.as_ref().and_then(|r| milli(r, false, "memory")).unwrap_or(0) / 1000;
            let score = 1000 - (1000 * i128::from(request) / i128::from(node_memory.max(1))) as i64;
            score.clamp(3, 999) as i32
        }
    }
}

/// The pod's shared surroundings. `network` is the namespace made for it, if it has one of its own.
pub(crate) fn sandbox(config: &AgentConfig, pod: &Pod, network: Option<PathBuf>, log_directory: PathBuf) -> SandboxConfig {
    let (metadata, spec) = (&pod.metadata, pod.spec.clone().unwrap_or_default());
    let uid = metadata.uid.clone().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    let sysctls = spec.security_context.iter().filter_map(|s| s.sysctls.as_ref()).flatten().map(|s| (s.name.clone(), s.value.clone()));
    SandboxConfig {
        id: uid.clone(),
        pod_namespace: metadata.namespace.clone().unwrap_or_default(),
        pod_uid: uid.clone(),
        hostname: hostname(pod),
        network: network.map_or(NetworkNamespace::Host, NetworkNamespace::Path),
        pid: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => PidNamespace::Host,
            (_, Some(true)) => PidNamespace::Pod,
            _ => PidNamespace::Container,
        },
        host_ipc: spec.host_ipc == Some(true),
        sysctls: sysctls.collect(),
        cgroup_parent: format!("{}/{}/pod{uid}", config.cgroup_parent, qos(pod)),
        resources: pod_resources(&spec),
        log_directory,
        pod_name: name,
        ..SandboxConfig::default()
    }
}

/// A pod is limited as a whole where all of its containers are.
fn pod_resources(spec: &PodSpec) -> Resources {
    let each: Vec<Resources> = spec.containers.iter().map(|c| resources(&c.resources.clone().unwrap_or_default())).collect();
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let each: Vec<Resources> = each.into_iter().chain(sidecars.map(|c| resources(&c.resources.clone().unwrap_or_default()))).collect();
    let inits = spec.init_containers.iter().flatten().map(|c| resources(&c.resources.clone().unwrap_or_default()));
    let inits: Vec<Resources> = inits.collect();
    let sum = |of: fn(&Resources) -> Option<i64>| -> Option<i64> {
        let together: i64 = each.iter().map(of).sum::<Option<i64>>()?;
        // The largest init container has the pod to itself while it runs.
        inits.iter().map(of).try_fold(together, |most, one| one.map(|o| most.max(o)))
    };
    let quota = sum(|r| r.cpu_quota);
    Resources {
        cpu_shares: Some(each.iter().filter_map(|r| r.cpu_shares).sum::<u64>().clamp(2, 262_144)),
        cpu_quota: quota,
        cpu_period: quota.map(|_| PERIOD.unsigned_abs()),
        memory_limit: sum(|r| r.memory_limit),
        ..Resources::default()
    }
}

/// The name a pod's containers see as their host's.
pub(crate) fn hostname(pod: &Pod) -> String {
    let given = pod.spec.as_ref().and_then(|s| s.hostname.clone()).filter(|h| !h.is_empty());
    let name = given.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// Who a container runs as: what its security context says, then the pod's, then the image.
pub(crate) fn user(pod: &Pod, container: &Container, image: &User) -> Result<(u32, u32, Vec<u32>), String> {
    let context = container.security_context.clone().unwrap_or_default();
    let pod_context = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let number = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let asked = context.run_as_user.or(pod_context.run_as_user).map(number);
    let uid = asked.unwrap_or(image.uid);
    // A user other than the image's own brings none of its groups.
    let image_group = if asked.is_none_or(|u| u == image.uid) { image.gid } else { 0 };
    let gid = context.run_as_group.or(pod_context.run_as_group).map_or(image_group, number);
    let must_not_be_root = context.run_as_non_root.or(pod_context.run_as_non_root) == Some(true);
    if must_not_be_root && uid == 0 {
        return Err("container has runAsNonRoot and image will run as root".into());
    }
    let strict = pod_context.supplemental_groups_policy.as_deref() == Some("Strict");
    let mut groups: Vec<u32> = if strict || asked.is_some_and(|u| u != image.uid) { Vec::new() } else { image.groups.clone() };
    groups.extend(pod_context.supplemental_groups.iter().flatten().map(|g| number(*g)));
    groups.extend(pod_context.fs_group.map(number));
    groups.sort_unstable();
    groups.dedup();
    Ok((uid, gid, groups))
}

fn seccomp(pod: &Pod, container: &Container, directory: &Path) -> Result<Seccomp, String> {
    let of = |profile: &SeccompProfile| -> Result<Seccomp, String> {
        match profile.type_.as_str() {
            "Localhost" => {
                let name = profile.localhost_profile.clone().unwrap_or_default();
                let path = directory.join("seccomp").join(&name);
                std::fs::read_to_string(&path).map(Seccomp::Localhost).map_err(|e| format!("reading seccomp profile {name:?}: {e}"))
            }
            "Unconfined" => Ok(Seccomp::Unconfined),
            _ => Ok(Seccomp::RuntimeDefault),
        }
    };
    let own = container.security_context.as_ref().and_then(|s| s.seccomp_profile.as_ref());
    let pods = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.seccomp_profile.as_ref());
    // Upstream leaves a pod that says nothing unconfined; here everybody gets the default profile.
    own.or(pods).map_or(Ok(Seccomp::RuntimeDefault), of)
}

/// A container, ready for the runtime.
///
/// # Errors
/// What its waiting state should say.
pub(crate) fn container(
    config: &AgentConfig,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    surroundings: &Surroundings<'_>,
) -> Result<ContainerConfig, String> {
    let Surroundings { image, image_user, environment, .. } = *surroundings;
    let (uid, gid, supplemental_groups) = user(pod, container, image_user)?;
    let mut variables: BTreeMap<String, String> =
        image.env.iter().filter_map(|e| e.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    variables.entry("PATH".into()).or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    variables.insert("HOSTNAME".into(), hostname(pod));
    variables.extend(environment.clone());
    let expanded = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        list.as_ref().filter(|l| !l.is_empty()).map(|l| l.iter().map(|t| expand(t, &variables)).collect())
    };
    let (command, arguments) = (expanded(&container.command), expanded(&container.args));
    let args: Vec<String> = match (command, arguments) {
        (Some(command), arguments) => command.into_iter().chain(arguments.unwrap_or_default()).collect(),
        (None, Some(arguments)) => image.entrypoint.iter().cloned().chain(arguments).collect(),
        (None, None) => image.entrypoint.iter().chain(&image.cmd).cloned().collect(),
    };
    if args.is_empty() {
        return Err("no command specified".into());
    }
    let context = container.security_context.clone().unwrap_or_default();
    let capabilities = context.capabilities.clone().unwrap_or_default();
    let privileged = context.privileged == Some(true);
    let unmasked = context.proc_mount.as_deref() == Some("Unmasked");
    let security = SecurityContext {
        uid,
        gid,
        supplemental_groups,
        privileged,
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        no_new_privs: context.allow_privilege_escalation == Some(false),
        seccomp: if privileged { Seccomp::Unconfined } else { seccomp(pod, container, &config.root)? },
        read_only_rootfs: context.read_only_root_filesystem == Some(true),
        masked_paths: unmasked.then(Vec::new),
        read_only_paths: unmasked.then(Vec::new),
    };
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt,
        image: container.image.clone().unwrap_or_default(),
        image_id: image.image.id.to_string(),
        rootfs: Rootfs::Overlay { lower: image.lower.clone(), upper: None },
        args,
        env: variables.iter().map(|(k, v)| format!("{k}={v}")).collect(),
        cwd: container.working_dir.clone().filter(|w| !w.is_empty()).unwrap_or_else(|| image.workdir.clone()),
        security,
        mounts: mounts(pod, container, &variables, surroundings)?,
        resources: resources(&container.resources.clone().unwrap_or_default()),
        oom_score_adj: Some(oom_score(pod, container, crate::machine::memory())),
        stdio: StdioConfig {
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
        },
        log_path: Some(PathBuf::from(&container.name).join(format!("{attempt}.log"))),
        stop_signal: image.stop_signal.clone(),
        ..ContainerConfig::default()
    })
}

fn bind(source: PathBuf, target: &str, read_only: bool) -> Mount {
    let kind = MountKind::Bind { source, recursive: true };
    Mount { target: target.into(), kind, read_only, propagation: Propagation::Private }
}

fn mounts(pod: &Pod, container: &Container, variables: &BTreeMap<String, String>, around: &Surroundings<'_>) -> Result<Vec<Mount>, String> {
    let mut all = Vec::new();
    let mounted: Vec<&str> = container.volume_mounts.iter().flatten().map(|m| m.mount_path.trim_end_matches('/')).collect();
    for (file, target) in [("etc-hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname")] {
        let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let source = around.directory.join(file);
        if !mounted.contains(&target) && source.exists() && !(host_network && file == "hostname") {
            all.push(bind(source, target, false));
        }
    }
    for mount in container.volume_mounts.iter().flatten() {
        let missing = || format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name);
        let volume = around.volumes.get(&mount.name).ok_or_else(missing)?;
        let sub_path = mount.sub_path_expr.as_ref().map(|e| expand(e, variables)).or_else(|| mount.sub_path.clone());
        let source = match sub_path.filter(|s| !s.is_empty()) {
            Some(sub_path) => within(volume, &sub_path)?,
            None => volume.clone(),
        };
        let mut one = bind(source, &mount.mount_path, mount.read_only == Some(true));
        one.propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::Slave,
            Some("Bidirectional") => Propagation::Shared,
            _ => Propagation::Private,
        };
        all.push(one);
    }
    let log = termination_log(around.directory, &container.name);
    let target = container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log");
    all.push(bind(log, target, false));
    Ok(all)
}

/// Where a container's last words are kept.
pub(crate) fn termination_log(directory: &Path, container: &str) -> PathBuf {
    directory.join("containers").join(container).join("termination-log")
}

/// A path below a volume, made as a directory when missing; refused when it leads out of the volume.
fn within(volume: &Path, sub_path: &str) -> Result<PathBuf, String> {
    if sub_path.starts_with('/') || sub_path.split('/').any(|p| p == "..") {
        return Err(format!("subPath {sub_path:?} must be relative and may not contain '..'"));
    }
    let failed = |e: std::io::Error| format!("failed to prepare subPath {sub_path:?}: {e}");
    let path = volume.join(sub_path);
    if !path.exists() {
        std::fs::create_dir_all(&path).map_err(failed)?;
    }
    let (root, real) = (volume.canonicalize().map_err(failed)?, path.canonicalize().map_err(failed)?);
    if real.starts_with(&root) { Ok(real) } else { Err(format!("subPath {sub_path:?} leads out of its volume")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_and_limits_become_shares_and_quotas() {
        let given = |limits: serde_json::Value, requests: serde_json::Value| {
            resources(&serde_json::from_value(json!({"limits": limits, "requests": requests})).unwrap())
        };
        let r = given(json!({"cpu": "500m", "memory": "64Mi"}), json!({"cpu": "250m"}));
        assert_eq!((r.cpu_shares, r.cpu_quota, r.memory_limit), (Some(256), Some(50_000), Some(64 << 20)));
        let r = given(json!({}), json!({}));
        assert_eq!((r.cpu_shares, r.cpu_quota, r.memory_limit), (Some(2), None, None));
    }

    #[test]
    fn users_come_from_the_container_then_the_pod_then_the_image() {
        let pod = |context: serde_json::Value| {
            serde_json::from_value::<Pod>(json!({"spec": {"containers": [], "securityContext": context}})).unwrap()
        };
        let container =
            |context: serde_json::Value| serde_json::from_value::<Container>(json!({"name": "c", "securityContext": context})).unwrap();
        let image = User { uid: 7, gid: 8, groups: vec![9] };
        assert_eq!(user(&pod(json!({})), &container(json!({})), &image), Ok((7, 8, vec![9])));
        assert_eq!(
            user(&pod(json!({"runAsUser": 1, "fsGroup": 5, "supplementalGroups": [4]})), &container(json!({})), &image),
            Ok((1, 0, vec![4, 5]))
        );
        assert_eq!(user(&pod(json!({"runAsUser": 1})), &container(json!({"runAsUser": 2, "runAsGroup": 3})), &image), Ok((2, 3, vec![])));
        assert!(user(&pod(json!({"runAsNonRoot": true})), &container(json!({})), &User::default()).is_err());
    }

    #[test]
    fn sub_paths_stay_in_their_volume() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("v");
        std::fs::create_dir_all(&volume).unwrap();
        assert!(within(&volume, "a/b").unwrap().is_dir());
        assert!(within(&volume, "../x").is_err());
        std::os::unix::fs::symlink("/etc", volume.join("evil")).unwrap();
        assert!(within(&volume, "evil").is_err());
    }
}
