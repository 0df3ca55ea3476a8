package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"expo/eval"
)

// pinned is a file of a benchmark that is not part of this program: it is
// fetched when it is needed, and used only if it is the one that is meant.
type pinned struct {
	name   string // for messages
	url    string
	sha256 string
	flag   string // the flag that takes a file in its place
}

// maxPinned is the largest file that is fetched.
const maxPinned = 64 << 20

// fetch gives the path of a pinned file in the cache, and downloads it if it
// is not there.
func (a *app) fetch(ctx context.Context, p pinned) (string, error) {
	dir, err := benchmarkCache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, p.sha256, p.name)
	got, err := digestOf(path)
	if err == nil && got == p.sha256 {
		return path, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	remedy := fmt.Sprintf("give it with --%s FILE", p.flag)
	if offline := os.Getenv("HF_HUB_OFFLINE"); offline != "" && offline != "0" {
		return "", fmt.Errorf("%s is needed, is not in %s, and HF_HUB_OFFLINE forbids fetching it; %s", p.name, dir, remedy)
	}
	b, err := download(ctx, p.url)
	if err != nil {
		return "", fmt.Errorf("%s is needed and cannot be fetched: %w; %s", p.name, err, remedy)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != p.sha256 {
		return "", fmt.Errorf("%s: what %s holds has SHA-256 %x, want %s; %s", p.name, p.url, sum, p.sha256, remedy)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return "", err
	}
	return path, eval.WriteFile(path, func(w io.Writer) error { _, err := w.Write(b); return err })
}

// benchmarkCache is where pinned files are kept, by their digests.
func benchmarkCache() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "expo", "benchmarks"), nil
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func download(ctx context.Context, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "expo")
	if token := os.Getenv("HF_TOKEN"); token != "" && req.URL.Host == "huggingface.co" && req.URL.Scheme == "https" {
		req.Header.Set("Authorization", "Bearer "+token) // not sent on to other hosts by net/http
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", from, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPinned+1))
	if err == nil && len(b) > maxPinned {
		err = errors.New("larger than 64 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return b, nil
}
