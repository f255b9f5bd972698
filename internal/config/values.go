package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akidb/internal/nearest"
)

// environment is what the meaning of some texts depends on.
type environment struct {
	role    Role
	memory  func() int64
	disk    func(dir string) (int64, error)
	workDir string
}

type setter = func(*Server, string, environment) error

// optional leaves the field alone when the text is empty.
func optional(set setter) setter {
	return func(s *Server, text string, env environment) error {
		if text == "" {
			return nil
		}
		return set(s, text, env)
	}
}

func text(field func(*Server) *string) setter {
	return func(s *Server, text string, _ environment) error {
		*field(s) = text
		return nil
	}
}

func oneOf(field func(*Server) *string, allowed ...string) setter {
	return func(s *Server, text string, _ environment) error {
		if !slices.Contains(allowed, text) {
			err := fmt.Errorf("want %s", strings.Join(allowed, ", "))
			if near := nearest.Name(text, allowed); near != "" {
				err = fmt.Errorf("%w; did you mean %q?", err, near)
			}
			return err
		}
		*field(s) = text
		return nil
	}
}

func boolean(field func(*Server) *bool) setter {
	return func(s *Server, text string, _ environment) error {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("want true or false")
		}
		*field(s) = b
		return nil
	}
}

func duration(field func(*Server) *time.Duration) setter {
	return func(s *Server, text string, _ environment) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("want a duration such as 500ms, 30s or 5m")
		}
		if d <= 0 {
			return errors.New("want more than 0")
		}
		*field(s) = d
		return nil
	}
}

// size parses bytes, at least least of them.
func size(field func(*Server) *int64, least int64) setter {
	return func(s *Server, text string, _ environment) error {
		n, err := ParseSize(text)
		if err != nil {
			return err
		}
		if n < least {
			return fmt.Errorf("want at least %s", FormatSize(least))
		}
		*field(s) = n
		return nil
	}
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize parses a number of bytes: 4096, 512MiB, 1.5GiB, 2GB.
func ParseSize(text string) (int64, error) {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range sizeUnits {
		if len(number) > len(u.name) && strings.EqualFold(number[len(number)-len(u.name):], u.name) {
			number, unit = strings.TrimSpace(number[:len(number)-len(u.name)]), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 && n <= (1<<62)/unit {
		return n * unit, nil
	}
	// Fractions are for people: nobody writes 1.5 of a byte, or in hexadecimal.
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.ContainsAny(number, "xXpP_nN") || !(f >= 0) || f*float64(unit) > 1<<62 {
		return 0, errors.New("want a size such as 512MiB or 4GiB")
	}
	return int64(f * float64(unit)), nil
}

// FormatSize writes n with the largest binary unit that divides it.
func FormatSize(n int64) string {
	for _, u := range []int{3, 2, 1, 0} {
		if unit := sizeUnits[u]; n >= unit.bytes && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// share is a size, or a percentage of the memory limit.
func share(field func(*Server) *int64, least int64) setter {
	return func(s *Server, text string, env environment) error {
		n, err := shareOf(func() (int64, error) { return env.memory(), nil }, "the memory limit", text)
		if err != nil {
			return err
		}
		if n < least {
			return fmt.Errorf("want at least %s", FormatSize(least))
		}
		*field(s) = n
		return nil
	}
}

// shareOf parses a size, or a percentage of a whole.
func shareOf(whole func() (int64, error), of, text string) (int64, error) {
	percent, ok := strings.CutSuffix(text, "%")
	if !ok {
		n, err := ParseSize(text)
		if err != nil {
			return 0, fmt.Errorf("%w, or a percentage of %s such as 60%%", err, of)
		}
		return n, nil
	}
	p, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
	if err != nil || !(p > 0 && p <= 100) {
		return 0, errors.New("want more than 0% and at most 100%")
	}
	n, err := whole()
	return int64(p / 100 * float64(n)), err
}

func address(field func(*Server) *string) setter {
	return func(s *Server, text string, _ environment) error {
		_, port, err := net.SplitHostPort(text)
		if err != nil {
			return errors.New("want host:port or :port")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("port is %q, want 0 to 65535", port)
		} else if port != strconv.FormatUint(n, 10) {
			return fmt.Errorf("port is %q, want %d", port, n)
		}
		*field(s) = text
		return nil
	}
}

// hostAndPort is an address to reach somebody at.
func hostAndPort(field func(*Server) *string) setter {
	return func(s *Server, text string, env environment) error {
		if host, port, err := net.SplitHostPort(text); err != nil || host == "" || port == "0" {
			return errors.New("want host:port")
		}
		return address(field)(s, text, env)
	}
}

// addresses is a list of them, separated by commas.
func addresses(field func(*Server) *string) setter {
	return func(s *Server, text string, env environment) error {
		var all []string
		for one := range strings.SplitSeq(text, ",") {
			var addr string
			if err := hostAndPort(func(*Server) *string { return &addr })(s, strings.TrimSpace(one), env); err != nil {
				return fmt.Errorf("%q: %w", strings.TrimSpace(one), err)
			}
			all = append(all, addr)
		}
		*field(s) = strings.Join(all, ",")
		return nil
	}
}

func directory(field func(*Server) *string) setter {
	return func(s *Server, text string, env environment) error {
		if text == "" {
			return errors.New("want a directory")
		}
		if !filepath.IsAbs(text) {
			text = filepath.Join(env.workDir, text)
		}
		*field(s) = filepath.Clean(text)
		return nil
	}
}

// leastDiskCache is the least that is worth a directory.
const leastDiskCache = 16 << 20

// setDiskCacheBytes relies on disk-cache-dir standing before disk-cache-bytes in
// the table. The share is of the whole file system, not of what is free: that
// changes with what the cache holds itself.
func setDiskCacheBytes(s *Server, text string, env environment) error {
	whole := func() (int64, error) {
		if s.DiskCacheDir == "" {
			return 1 << 40, nil // of nothing; the text is checked all the same
		}
		return env.disk(s.DiskCacheDir)
	}
	n, err := shareOf(whole, "the file system", text)
	if err == nil && n < leastDiskCache {
		err = fmt.Errorf("want at least %s", FormatSize(leastDiskCache))
	}
	if err == nil && s.DiskCacheDir != "" {
		s.DiskCacheBytes = n
	}
	return err
}

const storeWanted = "want file:///dir, s3://bucket/prefix or mem://"

// setStore relies on data-dir standing before store in the table.
func setStore(s *Server, text string, env environment) error {
	if text == "" {
		if env.role != Dev && env.role != Tool {
			return fmt.Errorf("%s needs a store; %s", env.role, storeWanted)
		}
		s.Store = devStore(s.DataDir)
		return nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return errors.New(storeWanted)
	}
	switch {
	case u.User != nil:
		return errors.New("credentials come from the AWS default chain, never from the URL")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("want no ? or # in it")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || u.Opaque != "" || !path.IsAbs(u.Path) {
			return errors.New("want an absolute path, as in file:///var/lib/akidb")
		}
	case "s3":
		if u.Host == "" || u.Opaque != "" {
			return errors.New("want a bucket, as in s3://bucket/prefix")
		}
	case "mem":
		if env.role != Dev {
			return fmt.Errorf("mem:// lives inside one process, so only dev can use it, not %s", env.role)
		}
		if u.Host != "" || strings.Trim(u.Path, "/") != "" || u.Opaque != "" {
			return errors.New("want nothing after mem://")
		}
	default:
		return errors.New(storeWanted)
	}
	s.Store = u
	return nil
}

// setWALShip relies on store standing before wal-ship in the table. A local
// store is usually on the disk that the log is on.
func setWALShip(s *Server, text string, _ environment) error {
	switch text {
	case "on":
		s.WALShip = true
	case "off":
		s.WALShip = false
	case "auto":
		s.WALShip = s.Store != nil && s.Store.Scheme == "s3"
	default:
		return errors.New("want auto, on or off")
	}
	return nil
}

func parseHTTPURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("want http://host:port or https://host:port")
	}
	return u, nil
}

func httpURL(assign func(*Server, string)) setter {
	return func(s *Server, text string, _ environment) error {
		if _, err := parseHTTPURL(text); err != nil {
			return err
		}
		assign(s, text)
		return nil
	}
}

func setWriterURL(s *Server, text string, _ environment) error {
	u, err := parseHTTPURL(text)
	if err != nil {
		return err
	}
	s.WriterURL = u
	return nil
}

// setWriterGRPCAddr relies on writer-url standing before it in the table.
func setWriterGRPCAddr(s *Server, text string, env environment) error {
	switch {
	case text != "":
		return address(func(s *Server) *string { return &s.WriterGRPCAddr })(s, text, env)
	case s.WriterURL != nil:
		s.WriterGRPCAddr = net.JoinHostPort(s.WriterURL.Hostname(), "9090")
	}
	return nil
}

func setOTLPEndpoint(s *Server, text string, env environment) error {
	var err error
	if strings.Contains(text, "://") {
		_, err = parseHTTPURL(text)
	} else {
		err = address(func(s *Server) *string { return &s.OTLPEndpoint })(s, text, env)
	}
	if err != nil {
		return errors.New("want host:port, http://host:port or https://host:port")
	}
	s.OTLPEndpoint = text
	return nil
}

func setAuth(_ *Server, text string, _ environment) error {
	switch text {
	case "off":
		return nil
	case "on":
		return errors.New("API keys are not built yet; use off, and let only trusted networks reach the ports")
	}
	return errors.New("want off")
}
