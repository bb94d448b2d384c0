//! Images from Dockerfiles, by buildah, without a registry: base images are made on this machine from the packages of
//! its own Debian, under the names that Dockerfiles give them.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::cluster::Cluster;
use crate::error::{At as _, TestbedError};
use crate::namespace::output_of;

/// An archive that nobody asked for so long is removed when its image is built anew.
const KEPT: Duration = Duration::from_secs(3600);

/// The beginning of each script. It runs in a mount namespace of its own: what buildah leaves mounted goes with it, and so
/// do buildah's records of mounts, which are in memory.
const PRELUDE: &str = r#"
set -euo pipefail
store=$1; shift
mkdir -p "$store/root" "$store/run"
mount -t tmpfs tmpfs "$store/run"
driver=overlay
case $(stat -f -c %T "$store/root") in overlay*) driver=vfs ;; esac
buildah() { command buildah --root "$store/root" --runroot "$store/run" --storage-driver "$driver" "$@"; }
buildah rm --all > /dev/null
"#;

/// $1: the image's name with its key, $2: its name for Dockerfiles, $3: packages, separated by commas, $4: a variant of
/// mmdebstrap.
const BASE: &str = r#"
if [ -z "$(buildah images --quiet "$1" 2> /dev/null)" ]; then
    . /etc/os-release
    sources=()
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        [ ! -s "$file" ] || sources+=("$file")
    done
    mmdebstrap --quiet --variant="$4" ${3:+--include="$3"} \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        "$VERSION_CODENAME" "$store/base.tar" "${sources[0]}"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$store/base.tar" /
    rm "$store/base.tar"
    if [ "$4" = extract ]; then
        # No package has run its scripts: what they would have made.
        printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin > "$store/passwd"
        printf '%s\n' root:x:0: nonroot:x:65532: > "$store/group"
        buildah add --quiet "$container" "$store/passwd" "$store/group" /etc/
        buildah add --quiet "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
        buildah config --user 65532 "$container"
    else
        buildah config --cmd /bin/bash "$container"
    fi
    buildah commit --quiet --rm "$container" "$1"
fi
buildah tag "$1" "$2"
"#;

/// $1: the tag, $2: the start of the archive's path, the rest: arguments of `buildah bud`. Prints the archive's path.
const BUILD: &str = r#"
tag=$1 archive=$2; shift 2
buildah bud --isolation chroot --pull=never --layers --force-rm --iidfile "$store/id" --tag "$tag" "$@" >&2
id=$(cut -d: -f2 "$store/id" | cut -c1-16)
archive=$archive-$id.tar
if [ ! -f "$archive" ]; then
    rm -f "$archive.part"
    buildah push --quiet "$tag" "docker-archive:$archive.part:$tag" >&2
    mv "$archive.part" "$archive"
fi
touch "$archive"
buildah rmi --prune > /dev/null 2>&1 || true
echo "$archive"
"#;

/// The content of a base image beside the packages that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseImage {
    /// A small Debian with a shell and apt, as `debian:bookworm-slim` is.
    Debian,
    /// Certificate authorities and a user 65532, but no shell and no other program, as `gcr.io/distroless/cc-debian12` is.
    Bare,
}

/// What an image is built from.
#[derive(Clone, Copy, Debug)]
pub struct ImageSpec<'a> {
    pub dockerfile: &'a Path,
    /// The folder that its `COPY` sees, less what `.dockerignore` names.
    pub context: &'a Path,
    /// Folders that stand in for stages: `("builder", folder)` takes what `COPY --from=builder` copies from the
    /// folder, and the stage of that name is not built.
    pub contexts: &'a [(&'a str, &'a Path)],
    /// Values of the Dockerfile's `ARG`s.
    pub arguments: &'a [(&'a str, &'a str)],
    /// The image's name on the nodes, with its tag.
    pub tag: &'a str,
}

/// Builds images on this machine, and keeps them in the cache folder (`INDEXBUILD_CACHE`). Layers are kept by what they are
/// made of, so that what has not changed is not made again.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    store: PathBuf,
}

impl ImageBuilder {
    /// Finds the programs that build images, and the place where they are kept.
    ///
    /// # Errors
    /// [`TestbedError::Unavailable`]: a program is missing, or this is not root; with what to do about it.
    pub fn find() -> Result<Self, TestbedError> {
        if !rustix::process::geteuid().is_root() {
            return Err(TestbedError::Unavailable("images are built by root: chroot, mounts".to_owned()));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        for program in ["buildah", "mmdebstrap", "unshare"] {
            if !env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
                return Err(TestbedError::Unavailable(format!("{program} is not installed: run make tools")));
            }
        }
        let cache = match (env::var_os("INDEXBUILD_CACHE"), env::var_os("HOME")) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => Path::new(&home).join(".cache/indexbuild"),
            (None, None) => env::temp_dir().join("indexbuild-cache"),
        };
        let store = cache.join("images");
        fs::create_dir_all(store.join("archives")).at("make", &store)?;
        Ok(Self { store })
    }

    /// Makes a base image of packages of this machine's Debian, unless it is there, and gives it the name that a
    /// Dockerfile calls it by.
    ///
    /// # Errors
    /// mmdebstrap's and buildah's.
    pub fn base(&self, name: &str, base: BaseImage, packages: &[&str]) -> Result<(), TestbedError> {
        let packages = packages.join(",");
        let variant = match base {
            BaseImage::Debian => "minbase",
            BaseImage::Bare => "extract",
        };
        let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let image = format!("localhost/testbed-base:{}", hash(&[BASE, &packages, variant, &system]));
        self.run(BASE, &[image, name.to_owned(), packages, variant.to_owned()]).map(drop)
    }

    /// Builds an image. Returns its archive, for [`Cluster::import_image`]. What it says `FROM` must be a name that
    /// [`ImageBuilder::base`] gave, or a stage: nothing is pulled.
    ///
    /// # Errors
    /// buildah's.
    pub fn build(&self, spec: &ImageSpec<'_>) -> Result<PathBuf, TestbedError> {
        let ImageSpec { dockerfile, context, contexts, arguments, tag } = *spec;
        let archive = self.store.join("archives").join(hash(&[tag]));
        let mut words = vec![tag.to_owned(), archive.display().to_string()];
        for (name, folder) in contexts {
            words.push(format!("--build-context={name}={}", folder.display()));
        }
        for (name, value) in arguments {
            words.push(format!("--build-arg={name}={value}"));
        }
        words.extend(["--file".to_owned(), dockerfile.display().to_string(), context.display().to_string()]);
        let said = self.run(BUILD, &words)?;
        let built = PathBuf::from(said.lines().last().unwrap_or_default());
        self.remove_old(&built, &hash(&[tag]))?;
        Ok(built)
    }

    /// One at a time on this machine: all share the store.
    fn run(&self, script: &str, words: &[String]) -> Result<String, TestbedError> {
        let place = self.store.join("lock");
        let lock = File::create(&place).at("make", &place)?;
        lock.lock().at("lock", &place)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "bash", "-c"]);
        command.arg(format!("{PRELUDE}{script}")).arg("images").arg(&self.store).args(words);
        output_of(command)
    }

    fn remove_old(&self, built: &Path, key: &str) -> Result<(), TestbedError> {
        let folder = self.store.join("archives");
        for entry in fs::read_dir(&folder).at("read", &folder)?.flatten() {
            let path = entry.path();
            let same = entry.file_name().to_string_lossy().starts_with(key);
            let used = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or_else(|_| SystemTime::now());
            if same && path != built && used.elapsed().unwrap_or_default() > KEPT {
                // Somebody else may have removed it just now.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}

impl Cluster {
    /// Builds an image and imports it on every node.
    ///
    /// # Errors
    /// Those of [`ImageBuilder::find`] and [`ImageBuilder::build`]; containerd's.
    pub fn build_image(&self, spec: &ImageSpec<'_>) -> Result<PathBuf, TestbedError> {
        let archive = ImageBuilder::find()?.build(spec)?;
        self.import_image(&archive)?;
        Ok(archive)
    }
}

fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
