//! A small disk that can be full.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Its size: some times what a job needs.
const SIZE: &str = "64m";
/// The name of the file that fills it.
const BALLAST: &str = "ballast";

/// A mount point that goes away with its owner, or at the latest with the namespace of mounts.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts memory as a file system at `dir`; `None` if this process may not.
    pub(crate) fn mount(dir: &Path) -> Option<Self> {
        let options = format!("size={SIZE}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "flott-chaos"]).arg(dir);
        let status = mount.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success()).then(|| Self(dir.to_owned()))
    }

    /// Writes until nothing fits any more.
    #[expect(clippy::disallowed_methods, reason = "a real disk is filled with a real file")]
    pub(crate) fn fill(&self) -> std::io::Result<()> {
        let mut file = File::create(self.0.join(BALLAST))?;
        for len in [1 << 20, 1 << 12] {
            let chunk = vec![0; len];
            while file.write_all(&chunk).is_ok() {}
        }
        Ok(())
    }

    /// Gives the room back.
    #[expect(clippy::disallowed_methods, reason = "a real disk is filled with a real file")]
    pub(crate) fn empty(&self) {
        drop(std::fs::remove_file(self.0.join(BALLAST)));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        drop(umount.arg("-l").arg(&self.0).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// The command before one that may mount without anybody else noticing; `None` if there is none.
pub(crate) fn in_own_namespace() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [
        &["unshare", "--mount", "--propagation", "private"],
        &["unshare", "--map-root-user", "--mount", "--propagation", "private"],
    ];
    WAYS.into_iter().find(|way| {
        let (program, args) = way.split_first().expect("a way has a program");
        let mut command = Command::new(program);
        // Whether it may not only have a namespace but mount in it.
        command.args(args).args(["mount", "-t", "tmpfs", "-o", "size=64k", "flott-chaos", "/mnt"]);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    })
}
