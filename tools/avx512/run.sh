#!/usr/bin/env bash
# Runs the tests of a Go package on an emulated processor with AVX-512 (Ice Lake: F, BW, VL, DQ,
# VBMI, VNNI), for a machine whose own has none. Bochs emulates these instructions; QEMU and
# Valgrind do not. It emulates a whole computer, so the test binary runs in a small Linux.
#
#   run.sh [package [flags of the test binary]]
#   run.sh ./kernels -test.v -test.run Scan4
#
# Prints what the tests print and exits with their status. AKIDB_SIMD and GODEBUG are handed on;
# AVX512_TIMEOUT bounds the run, in seconds. The kernel is kept in .tools; the rest comes from
# Debian's packages, which are installed where they are missing. Expect some 20 s of a processor
# for the boot, and then a few hundred times what the tests take without emulation.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
package=${1:-./kernels}
shift || true
limit=${AVX512_TIMEOUT:-1200}
vmlinuz=$PWD/.tools/avx512/vmlinuz

missing=()
for name in bochs bochsbios vgabios bochs-term isolinux syslinux-common xorriso busybox-static cpio; do
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
done
if ((${#missing[@]} > 0)); then
  echo "installing ${missing[*]}" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

work=$(mktemp -d)
emulator=
# shellcheck disable=SC2317 # the trap calls it
cleanup() {
  # timeout leads a process group of its own, and the emulator ignores every signal but this one.
  if [[ -n $emulator ]]; then
    kill -KILL -- "-$emulator" || true
    wait "$emulator" || true
  fi 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
mkdir -p "$work"/{iso,root/{dev,proc,tmp,test}}

# The kernel is only unpacked: nothing here may change what the host boots. The cloud flavour is
# smaller and has all that is needed built in.
if [[ ! -s $vmlinuz ]]; then
  image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
  if [[ -z $image ]]; then
    apt-get update -qq
    image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
  fi
  (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$image")
  mkdir -p "$(dirname "$vmlinuz")"
  dpkg-deb --fsys-tarfile "$work/$image"_*.deb | tar -xO --wildcards './boot/vmlinuz-*' >"$work/vmlinuz"
  mv "$work/vmlinuz" "$vmlinuz"
fi

# Go's collector has AVX-512 of its own since 1.26. Bochs 2.7 gets it wrong (the tests of
# internal/runtime/gc/scan show it), and the heap is corrupted.
GOEXPERIMENT=nogreenteagc GOOS=linux GOARCH=amd64 CGO_ENABLED=0 \
  go test -c -ldflags '-s -w' -o "$work/root/run" "$package"
cp -r "$(go list -f '{{.Dir}}' "$package")/." "$work/root/test"
cp /bin/busybox "$work/root/busybox"

# The tests have the second serial port for themselves; the first has the kernel's messages and
# their exit status.
{
  printf '#!/busybox sh\n'
  printf 'export TMPDIR=/tmp HOME=/tmp AKIDB_SIMD=%q GODEBUG=%q\n' "${AKIDB_SIMD:-}" "${GODEBUG:-}"
  printf '/busybox mount -t devtmpfs none /dev\n'
  printf '/busybox mount -t proc none /proc\n'
  printf '/busybox stty -F /dev/ttyS1 115200 raw\n'
  printf 'cd /test\n'
  printf '/run'
  for argument in "$@"; do printf ' %q' "$argument"; done
  printf ' </dev/null >/dev/ttyS1 2>&1\n'
  printf 'echo "exit status $?"\n'
  printf '/busybox poweroff -f\n'
} >"$work/root/init"
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet) | gzip >"$work/iso/initrd"

# Of what the emulated processor claims, the kernel must not believe
#   pku            its saved state has no size, upon which the kernel disables all of AVX
#   xsaves xsavec  the size of their compacted state is wrong, likewise
#   fsrm           it is set without erms; the kernel's memmove then copies without an end
# Programs ask the processor itself and see all features. The rest of the line saves time.
cat >"$work/iso/isolinux.cfg" <<'END'
default tests
prompt 0
label tests
  kernel vmlinuz
  initrd initrd
  append console=ttyS0,115200 quiet panic=-1 clearcpuid=pku,xsaves,xsavec,fsrm tsc=reliable random.trust_cpu=on mitigations=off cryptomgr.notests init_on_alloc=0 lsm=
END
cp "$vmlinuz" "$work/iso/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/iso"
xorriso -as mkisofs -quiet -o "$work/boot.iso" -b isolinux.bin -c boot.cat \
  -no-emul-boot -boot-load-size 4 -boot-info-table "$work/iso" 2>/dev/null

# ips converts the emulator's time, of which the BIOS waits some for its disk, to instructions.
cat >"$work/bochsrc" <<END
config_interface: textconfig
display_library: term
cpu: model=corei7_icelake_u, count=1, ips=20000000
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/boot.iso, status=inserted
boot: cdrom
clock: sync=none
com1: enabled=1, mode=file, dev=$work/console
com2: enabled=1, mode=file, dev=$work/output
log: $work/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
END
echo continue >"$work/start" # Debian's Bochs begins in its debugger
: >"$work/console"
: >"$work/output"

TERM=vt100 timeout --signal=KILL "$limit" \
  nice -n 10 bochs -q -f "$work/bochsrc" -rc "$work/start" </dev/null >"$work/bochs.out" 2>&1 &
emulator=$!
tail -n +1 -f --pid="$emulator" "$work/output"
ended=0
{ wait "$emulator" || ended=$?; } 2>/dev/null
emulator=

status=$(sed -n 's/^exit status \([0-9]*\).*/\1/p' "$work/console")
if [[ -z $status ]]; then
  if ((ended == 137)); then
    echo "run.sh: not done after $limit s (AVX512_TIMEOUT)" >&2
  else
    echo "run.sh: the emulated computer stopped before the tests did" >&2
    tail -n 20 "$work/console" "$work/bochs.out" >&2
  fi
  exit 1
fi
exit "$status"
