#!/usr/bin/env bash
# Runs tests of internal/kernel on an emulated processor that has AMX.
#
#   scripts/amx_bochs.sh [DIR]
#
# Needs: Debian (bookworm or later) with its mirror in reach, bash, curl, awk, apt,
# dpkg, g++, make, patch, Go. Nothing is installed: packages are downloaded and
# unpacked under DIR (default: expo-amx in $TMPDIR or /tmp), which takes 1 GB and
# is used again by the next run. Environment:
#
#   RUN      the tests to run, as go test -run has them (default: all of AMX, and
#            the tests of products under it; everything takes hours)
#   LIMIT    seconds until the emulator is stopped (default 1800)
#
# What is run is a static test binary as the only program of Debian's Linux
# 6.12, on Bochs 3.0 (https://bochs.sourceforge.io) as a Sapphire Rapids with one
# processor. The emulator needs a minute or two to be built, half a minute to
# boot, and some 0.2 ms for each TDPBF16PS. Exit status: 0 if the tests pass.
#
# Bochs 3.0 multiplies tiles as Intel's manual says, but five things stand in the
# way of a system that uses them; the patch below mends them:
#
#   XSAVE stores rows and bytes of a row in each other's place, half of each
#   tile, and those that are not in use
#   XRSTOR of the compact form skips what it is not asked for
#   IA32_XFD is missing, without which Linux keeps AMX to itself
#   differences between 2^-126 and 2^-125 are flushed to zero as if subnormal
#
# After that its additions and multiplications agree with those of a processor,
# with the same rules for subnormal numbers, in 10^8 random cases each.
set -euo pipefail

cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:-${TMPDIR:-/tmp}/expo-amx}")
run=${RUN:-'AMX|PackTiles|Implementations|MatMul/amx|BatchInvariance/amx|Bands/amx|NotFinite/amx|FuzzMatMul'}
limit=${LIMIT:-1800}
mkdir -p "$dir"/{debs,root,apt/lists/partial,apt/archives/partial}

bochs=$dir/bochs-3.0
if [ ! -x "$bochs/bochs" ]; then
	tar=$dir/bochs.tar.xz
	curl -fsSo "$tar" http://deb.debian.org/debian/pool/main/b/bochs/bochs_3.0+dfsg.orig.tar.xz
	echo "78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b  $tar" | sha256sum -c --quiet
	rm -rf "$bochs"
	tar xf "$tar" -C "$dir"
	patch -s -p1 -d "$bochs" <<'PATCH'
--- a/cpu/xsave.cc
+++ b/cpu/xsave.cc
@@ -407,3 +406,0 @@
-
-        if (format & feature_mask)
-          offset += xsave_restore[feature].len;
@@ -410,0 +408,3 @@
+
+      if (format & feature_mask)
+        offset += xsave_restore[feature].len;
@@ -1142,2 +1142,2 @@
-      tilecfg.vmm16u(8+n)    = BX_CPU_THIS_PTR amx->tilecfg[n].rows;
-      tilecfg.vmmubyte(48+n) = BX_CPU_THIS_PTR amx->tilecfg[n].bytes_per_row;
+      tilecfg.vmm16u(8+n)    = BX_CPU_THIS_PTR amx->tilecfg[n].bytes_per_row;
+      tilecfg.vmmubyte(48+n) = BX_CPU_THIS_PTR amx->tilecfg[n].rows;
@@ -1175 +1175 @@
-    for (unsigned row=0; row < BX_TILE_REGISTERS; row++) {
+    for (unsigned row=0; row < BX_TILE_MAX_ROWS; row++) {
@@ -1186 +1186 @@
-    for (unsigned row=0; row < BX_TILE_REGISTERS; row++) {
+    for (unsigned row=0; row < BX_TILE_MAX_ROWS; row++) {
@@ -1203 +1203 @@
-  return (BX_CPU_THIS_PTR amx->tile_use_tracker == 0);  // all tiles are zero
+  return BX_CPU_THIS_PTR amx->tile_use_tracker != 0;
@@ -1207,0 +1208,2 @@
+extern Bit64u xfd_msr[2]; // IA32_XFD, IA32_XFD_ERR
+
@@ -1228,0 +1231,4 @@
+
+#if BX_SUPPORT_AMX
+  xinuse &= ~Bit32u(xfd_msr[0]);
+#endif
--- a/cpu/proc_ctrl.cc
+++ b/cpu/proc_ctrl.cc
@@ -507,0 +508,2 @@
+Bit64u xfd_msr[2]; // IA32_XFD, IA32_XFD_ERR
+
@@ -541 +543,2 @@
-      (~BX_CPU_THIS_PTR xcr0.val32 & (BX_XCR0_XTILECFG_MASK | BX_XCR0_XTILEDATA_MASK)) != 0)
+      (~BX_CPU_THIS_PTR xcr0.val32 & (BX_XCR0_XTILECFG_MASK | BX_XCR0_XTILEDATA_MASK)) != 0 ||
+      (xfd_msr[0] & BX_XCR0_XTILEDATA_MASK) != 0)
@@ -608,0 +612,5 @@
+
+  if (xfd_msr[0] & BX_XCR0_XTILEDATA_MASK) {
+    xfd_msr[1] |= BX_XCR0_XTILEDATA_MASK;
+    exception(BX_NM_EXCEPTION, 0);
+  }
--- a/cpu/msr.cc
+++ b/cpu/msr.cc
@@ -28,0 +29,2 @@
+
+extern Bit64u xfd_msr[2]; // IA32_XFD, IA32_XFD_ERR
@@ -110,0 +113,5 @@
+#if BX_SUPPORT_AMX
+  msr_desc[BX_MSR_IA32_XFD] = new MSR_Descriptor("MSR_IA32_XFD", BX_ISA_AMX);
+  msr_desc[BX_MSR_IA32_XFD_ERROR] = new MSR_Descriptor("MSR_IA32_XFD_ERR", BX_ISA_AMX);
+#endif
+
@@ -336,0 +344,7 @@
+#if BX_SUPPORT_AMX
+    case BX_MSR_IA32_XFD:
+    case BX_MSR_IA32_XFD_ERROR:
+      val64 = xfd_msr[index - BX_MSR_IA32_XFD];
+      break;
+#endif
+
@@ -958,0 +973,10 @@
+#endif
+
+#if BX_SUPPORT_AMX
+    case BX_MSR_IA32_XFD:
+    case BX_MSR_IA32_XFD_ERROR:
+      if (val_64 & ~Bit64u(BX_XCR0_XTILEDATA_MASK))
+        return false;
+      xfd_msr[index - BX_MSR_IA32_XFD] = val_64;
+      handleAvxModeChange();
+      break;
--- a/cpu/cpuid.cc
+++ b/cpu/cpuid.cc
@@ -238,0 +239,2 @@
+    if (is_cpu_extension_supported(BX_ISA_AMX))
+      leaf->eax |= (1<<4);
@@ -262,0 +265,2 @@
+      if (subfunction == xcr0_t::BX_XCR0_XTILEDATA_BIT)
+        leaf->ecx |= (1<<2);
--- a/cpu/softfloat3e/s_subMagsF32.c
+++ b/cpu/softfloat3e/s_subMagsF32.c
@@ -96 +96 @@
-        if (!expZ && sigDiff) {
+        if (!expZ && ((uint32_t) sigDiff << shiftDist) < 0x00800000) {
PATCH
	echo "building Bochs" >&2
	(
		cd "$bochs"
		./configure --enable-x86-64 --enable-cpu-level=6 --enable-avx --enable-evex --enable-amx \
			--enable-all-optimizations --enable-memtype --enable-protection-keys --enable-cet --enable-uintr \
			--enable-monitor-mwait --enable-vmx=2 --disable-docbook --disable-xpm --with-nogui CXXFLAGS=-O2
		make -j"$(nproc)"
	) >"$dir/build.log" 2>&1
fi

# Tools of this release, and the kernel of trixie: bookworm's 6.1 does not boot
# on this Bochs.
root=$dir/root
if [ ! -e "$root/usr/bin/genisoimage" ]; then
	(cd "$dir/debs" && apt-get -qq -o APT::Sandbox::User=root download genisoimage isolinux syslinux-common busybox-static seabios)
	for f in "$dir"/debs/*.deb; do dpkg -x "$f" "$root"; done
fi
kernel=$dir/vmlinuz
if [ ! -e "$kernel" ]; then
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >"$dir/apt/sources.list"
	apt=(-qq -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$dir/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::State::Lists="$dir/apt/lists" -o Dir::Cache::Archives="$dir/apt/archives"
		-o Dir::Cache::pkgcache="" -o Dir::Cache::srcpkgcache="")
	apt-get "${apt[@]}" update
	image=$(apt-cache "${apt[@]}" depends linux-image-amd64 | awk '/Depends: linux-image-6\.12/ { print $2; exit }')
	(cd "$dir/apt" && apt-get "${apt[@]}" download "$image")
	dpkg --fsys-tarfile "$dir/apt/$image"_*.deb | tar xO --wildcards './boot/vmlinuz*' >"$kernel.new"
	mv "$kernel.new" "$kernel"
fi

# The disk: a boot loader, the kernel, and a file system in memory with the tests.
disk=$dir/disk
initrd=$dir/initrd
rm -rf "$disk" "$initrd"
mkdir -p "$disk/isolinux" "$initrd"/{bin,proc,sys,dev,tmp}
CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go test -c -o "$initrd/test" ./internal/kernel
cp "$root/bin/busybox" "$initrd/bin/"
echo "-test.v -test.short -test.run $run" >"$initrd/arguments"
cat >"$initrd/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
set -f
/bin/busybox echo; /bin/busybox echo BEGIN
/test $(/bin/busybox cat /arguments)
/bin/busybox echo "STATUS $?"
/bin/busybox poweroff -f
INIT
chmod +x "$initrd/init"
(cd "$initrd" && find . | "$root/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$disk/initrd.gz"
cp "$kernel" "$disk/vmlinuz"
cp "$root/usr/lib/ISOLINUX/isolinux.bin" "$root/usr/lib/syslinux/modules/bios/ldlinux.c32" "$disk/isolinux/"
cat >"$disk/isolinux/isolinux.cfg" <<'BOOT'
DEFAULT tests
PROMPT 0
LABEL tests
 KERNEL /vmlinuz
 APPEND initrd=/initrd.gz console=ttyS0,115200 quiet panic=-1 mitigations=off nokaslr nopti tsc=reliable no_timer_check lpj=1000000
BOOT
"$root/usr/bin/genisoimage" -quiet -R -o "$dir/disk.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
	-no-emul-boot -boot-load-size 4 -boot-info-table "$disk"

# Few instructions per second mean that many interrupts fall into each product.
cat >"$dir/bochsrc" <<BOCHS
megs: 1024
cpu: model=sapphire_rapids, count=1, ips=4000000
romimage: file=$root/usr/share/seabios/bios.bin
vgaromimage: file=$root/usr/share/seabios/vgabios-stdvga.bin
vga: extension=vbe
ata0-master: type=cdrom, path=$dir/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$dir/serial.txt
log: $dir/bochs.log
panic: action=fatal
clock: sync=none
display_library: nogui
BOCHS
rm -f "$dir/serial.txt"
timeout "$limit" "$bochs/bochs" -q -f "$dir/bochsrc" >"$dir/bochs.out" 2>&1 || true # 1 when the guest is switched off
sed -n '/^BEGIN/,$p' "$dir/serial.txt" | tr -d '\r' | grep -v '^\[ *[0-9.]*\] '
grep -q '^STATUS 0' "$dir/serial.txt"
