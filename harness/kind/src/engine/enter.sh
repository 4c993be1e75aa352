# Runs first in the engine's new namespaces, still in the machine's root: makes the engine's root and goes there.
# Arguments: the folder of the engine's programs, its state folder, its data folder, its control group.
set -eu
programs=$1 state=$2 data=$3 group=$4
new=$state/root
mkdir -p "$new" "$state/upper" "$state/work"
mount -t overlay engine -o "lowerdir=$programs,upperdir=$state/upper,workdir=$state/work" "$new"
cd "$new"
mkdir -p proc sys dev run tmp mnt/host var/lib/docker usr/lib/modules
mount -t proc proc proc
# A new one, so that it shows this network namespace's devices.
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir run/engine
mount --bind "$state/run" run/engine
mount --bind "$data" var/lib/docker
if [ -d /lib/modules ]; then mount --bind -o ro /lib/modules usr/lib/modules; fi
pivot_root . mnt/host
exec chroot . /usr/bin/tini -- /bin/sh /run/engine/main.sh "$group"
