package config

import (
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// assumedMemory is the limit where the system does not tell: what the smallest
// machine worth running on has.
const assumedMemory = 4 << 30

// MemoryLimit returns how much memory this process may use, in bytes: the least
// of the machine's RAM and the limits of its control groups (v1 and v2) and of
// all their parents.
func MemoryLimit() int64 { return memoryLimit(os.DirFS("/")) }

func memoryLimit(root fs.FS) int64 {
	limit := int64(0)
	consider := func(n int64, ok bool) {
		if ok && n > 0 && (limit == 0 || n < limit) {
			limit = n
		}
	}
	consider(totalRAM(root))
	for _, file := range limitFiles(root) {
		consider(readNumber(root, file))
	}
	if limit == 0 {
		return assumedMemory
	}
	return limit
}

// limitFiles lists the files that may hold a limit, innermost first. Inside a
// container /proc/self/cgroup may name a path of the host that the container
// does not see; the mount's own root is tried then, as every path ends there.
func limitFiles(root fs.FS) []string {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var files []string
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path, e.g. 0::/user.slice or 5:memory:/docker/1f
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "":
			files = append(files, upward("sys/fs/cgroup", parts[2], "memory.max")...)
			files = append(files, upward("sys/fs/cgroup/unified", parts[2], "memory.max")...)
		case strings.Contains(","+parts[1]+",", ",memory,"):
			files = append(files, upward("sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes")...)
		}
	}
	return files
}

// upward names file in mount/group and every directory above it up to mount.
func upward(mount, group, file string) []string {
	var files []string
	for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
		files = append(files, path.Join(mount, dir, file))
		if dir == "/" {
			return files
		}
	}
}

// readNumber reads a file that holds a number of bytes. "max", and v1's way of
// saying so, is larger than any RAM and so never the least.
func readNumber(root fs.FS, file string) (int64, bool) {
	b, err := fs.ReadFile(root, file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

func totalRAM(root fs.FS) (int64, bool) {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}
