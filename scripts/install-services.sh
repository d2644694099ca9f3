#!/bin/sh
# Installs the server programs that CareForAll runs in its data folder:
# PostgreSQL 15 or newer and Redis 7 or newer. Silent when all is there.
#
#   scripts/install-services.sh                  to run CareForAll
#   scripts/install-services.sh --test [TOOL...] to test it too, with further tools
#
# Only programs are installed: no service is started, no database is created.
set -eu

script=$(cd "$(dirname "$0")" && pwd)/${0##*/}
oldest_postgres=15
oldest_redis=7
test_tools='curl'

say() {
    printf '%s\n' "$*" >&2
}

usage() {
    say "usage: $script [--test [TOOL...]]"
    exit 2
}

main() {
    tools=
    case ${1-} in
        '') ;;
        --test) shift && tools="$test_tools${*:+ $*}" && set -- --test "$@" ;;
        *) usage ;;
    esac
    refuse_old
    missing=$(list_missing "$tools")
    [ -n "$missing" ] || exit 0

    manager=$(find_manager)
    say "Installing $missing"
    # Homebrew belongs to a user and refuses root; all others need root.
    [ "$manager" = brew ] || become_root "$@"
    packages=$(for program in $missing; do package "$program"; done)
    "install_with_$manager" "$packages" >&2

    refuse_old
    missing=$(list_missing "$tools")
    [ -z "$missing" ] || fail "Installed, but still not found: $missing
If the programs are in an unusual place, set CAREFORALL_POSTGRES_BIN (a folder)
and CAREFORALL_REDIS_SERVER (a program), or set DATABASE_URL and REDIS_URL."
}

fail() {
    say "$*"
    exit 1
}

# The major version of the newest PostgreSQL server here, or 0. This looks where
# careforall looks; several systems keep server programs off the search path.
postgres_version() {
    newest=0
    on_path=$(command -v initdb || true)
    for folder in "${CAREFORALL_POSTGRES_BIN-}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql@*/bin "${on_path%/*}"; do
        [ -x "$folder/initdb" ] || continue
        version=$("$folder/postgres" --version 2>/dev/null | sed -n 's/^.*(PostgreSQL) \([0-9]*\).*/\1/p')
        [ "${version:-0}" -le "$newest" ] || newest=$version
    done
    echo "$newest"
}

# The major version of the Redis server here, or 0. Valkey answers alike.
redis_version() {
    version=
    for program in "${CAREFORALL_REDIS_SERVER-}" redis-server /usr/sbin/redis-server; do
        command -v "$program" >/dev/null || continue
        version=$("$program" --version | sed -n 's/^.* v=\([0-9]*\).*/\1/p')
        break
    done
    echo "${version:-0}"
}

list_missing() {
    found=
    [ "$(postgres_version)" -ne 0 ] || found="postgres"
    [ "$(redis_version)" -ne 0 ] || found="$found redis"
    for tool in $1; do
        command -v "$tool" >/dev/null || found="$found $tool"
    done
    echo "${found# }"
}

# An old server may be in use, so replacing it is left to the administrator.
refuse_old() {
    require_versions "$(postgres_version)" "$(redis_version)" installed
}

# Ends the script if a version is too old; 0 stands for none at all.
require_versions() {
    refused=
    if [ "$1" -ne 0 ] && [ "$1" -lt "$oldest_postgres" ]; then
        refused=postgres
        say "PostgreSQL $oldest_postgres or newer is needed, but $1 is $3.
Install a newer one from https://www.postgresql.org/download/ (the PGDG packages
keep versions side by side), or set DATABASE_URL to a server that runs elsewhere."
    fi
    if [ "$2" -ne 0 ] && [ "$2" -lt "$oldest_redis" ]; then
        refused="$refused redis"
        say "Redis $oldest_redis or newer is needed, but $2 is $3.
Install a newer one from https://packages.redis.io, or set REDIS_URL to a server
that runs elsewhere."
    fi
    [ -z "$refused" ] || exit 1
}

find_manager() {
    for manager in apt-get dnf pacman apk brew; do
        if command -v "$manager" >/dev/null; then
            echo "${manager%-get}"
            return
        fi
    done
    fail "No package manager is known here to install: $missing. Install PostgreSQL
$oldest_postgres or newer (with initdb) and Redis $oldest_redis or newer, or set DATABASE_URL and REDIS_URL."
}

# The name of the package that holds a program.
package() {
    case $manager:$1 in
        brew:postgres) echo postgresql@17 ;;
        dnf:postgres) echo postgresql-server ;;
        *:postgres) echo postgresql ;;
        apt:redis) echo redis-server ;;
        # The path finds whichever of Redis and Valkey a Fedora release carries.
        dnf:redis) echo /usr/bin/redis-server ;;
        pacman:redis) echo valkey ;;
        # Of LibreOffice, what opens CSV; where there is a part without windows, that.
        apt:soffice) echo libreoffice-calc-nogui ;;
        dnf:soffice | apk:soffice) echo libreoffice-calc ;;
        pacman:soffice) echo libreoffice-still ;;
        brew:soffice) echo libreoffice ;;
        *) echo "$1" ;;
    esac
}

become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        exec sudo -n sh "$script" "$@"
    fi
    fail "This needs an administrator, who should run: sudo sh $script${1:+ $*}"
}

# $packages is a list of words, so the functions below leave it unquoted.

install_with_apt() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 update ||
        say 'Some package lists could not be fetched; going on with those at hand.'
    require_versions "$(apt_offers postgres)" "$(apt_offers redis)" 'what the package lists offer'
    trap restore_debian EXIT
    trap 'exit 1' HUP INT TERM
    quieten_debian
    # shellcheck disable=SC2086
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $1
    # A fresh package would start its own Redis with the next boot.
    case " $missing " in
        *' redis '*) systemctl disable redis-server >/dev/null 2>&1 || true ;;
    esac
}

# The major version that apt would install of a missing server, or 0.
apt_offers() {
    case " $missing " in
        *" $1 "*) ;;
        *) echo 0 && return ;;
    esac
    version=$(LC_ALL=C apt-cache policy "$(package "$1")" |
        sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9]\{1,\}\).*/\2/p')
    echo "${version:-0}"
}

# Debian's packages start their services and create a database on port 5432.
# Two files keep them from it and are removed after the installation. A policy
# that the machine has already is left alone.
policy=/usr/sbin/policy-rc.d
cluster_settings=/etc/postgresql-common/createcluster.d
own_policy=
own_setting=

quieten_debian() {
    if [ ! -e "$policy" ]; then
        own_policy=$policy
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    own_setting=$cluster_settings/zz-install-services.conf
    mkdir -p "$cluster_settings"
    echo 'create_main_cluster = false' >"$own_setting"
}

restore_debian() {
    rm -f ${own_policy:+"$own_policy"} ${own_setting:+"$own_setting"}
    # Whatever else is in these folders keeps them.
    rmdir "$cluster_settings" "${cluster_settings%/*}" 2>/dev/null || true
}

install_with_dnf() {
    # shellcheck disable=SC2086
    dnf -y install $1
}

install_with_pacman() {
    # shellcheck disable=SC2086
    pacman -Sy --needed --noconfirm $1
}

install_with_apk() {
    # shellcheck disable=SC2086
    apk add --no-cache $1
}

install_with_brew() {
    # shellcheck disable=SC2086
    brew install $1
}

main "$@"
