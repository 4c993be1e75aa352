# The engine's main program, pid 2 in its namespaces, in its own root. Its standard input is its owner's sign of life:
# end of file means that the owner is gone, and everything here ends with this program; the word "stop" means that the
# daemon should close its files first.
set -eu
umount -l /mnt/host
ip link set lo up
# Names that containers ask for and Docker does not know: nobody listens at this address (RFC 5737), which is this
# namespace's own, so that the question is refused at once.
ip addr add 192.0.2.53/32 dev lo
echo 'nameserver 192.0.2.53' >/etc/resolv.conf
exec 3<&0
{
  dockerd --host unix:///run/engine/docker.sock --data-root /var/lib/docker --exec-root /run/docker \
    --pidfile /run/docker.pid --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs \
    --cgroup-parent "$1" --dns 192.0.2.53 --shutdown-timeout 1 >/run/engine/dockerd.log 2>&1 </dev/null 3<&- || :
  kill -TERM $$
} &
daemon=$!
read -r word <&3 || exit 0
if [ "$word" = stop ]; then
  trap : TERM
  kill -TERM "$(cat /run/docker.pid)"
  wait "$daemon" || :
fi
