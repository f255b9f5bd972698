package s3blob

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/akidb/akidb/segments/blob"
)

// maxListed is how many entries S3 returns at most for one request.
const maxListed = 1000

// List implements blob.Store. It makes as many requests as the page needs: one
// for every 1000 entries, and more only where the server returns what
// Listing.After excludes.
func (s *Store) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	page, err := s.list(ctx, l)
	if err != nil {
		return blob.Page{}, fmt.Errorf("list %q: %w", l.Prefix, classify(ctx, err))
	}
	return page, nil
}

func (s *Store) list(ctx context.Context, l blob.Listing) (blob.Page, error) {
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + l.Prefix)}
	if l.Delimiter != "" {
		in.Delimiter = &l.Delimiter
	}
	if start := startAfter(l); start != "" {
		in.StartAfter = aws.String(s.prefix + start)
	}
	var page blob.Page
	for {
		room := l.Max() - len(page.Objects) - len(page.Prefixes)
		in.MaxKeys = aws.Int32(int32(min(room, maxListed)))
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return blob.Page{}, err
		}
		if err := s.appendTo(&page, out, l.After); err != nil {
			return blob.Page{}, err
		}
		if !aws.ToBool(out.IsTruncated) {
			return page, nil
		}
		if len(page.Objects)+len(page.Prefixes) >= l.Max() {
			page.Next = lastOf(page)
			return page, nil
		}
		if aws.ToString(out.NextContinuationToken) == "" {
			return blob.Page{}, fmt.Errorf("server cut the list off without a token")
		}
		in.StartAfter, in.ContinuationToken = nil, out.NextContinuationToken
	}
}

// startAfter is where the server should begin, "" for the beginning. S3 skips
// keys but not common prefixes, so everything that a common prefix up to After
// stands for is skipped by starting after the greatest key it can have.
func startAfter(l blob.Listing) string {
	if l.After <= l.Prefix {
		return "" // everything with the prefix but, at most, the prefix itself
	}
	if prefix, rolled := l.Rollup(l.After); rolled {
		return prefix + "\U0010FFFF"
	}
	return l.After
}

// appendTo adds what the server returned, without what is up to after.
func (s *Store) appendTo(page *blob.Page, out *s3.ListObjectsV2Output, after string) error {
	for _, o := range out.Contents {
		key := strings.TrimPrefix(aws.ToString(o.Key), s.prefix)
		if key <= after {
			continue
		}
		if n := len(page.Objects); n > 0 && key <= page.Objects[n-1].Key {
			return fmt.Errorf("server lists out of order: %q after %q", key, page.Objects[n-1].Key)
		}
		page.Objects = append(page.Objects, blob.Object{Key: key, Size: aws.ToInt64(o.Size), Version: versionOf(o.ETag)})
	}
	for _, p := range out.CommonPrefixes {
		prefix := strings.TrimPrefix(aws.ToString(p.Prefix), s.prefix)
		if prefix <= after {
			continue
		}
		if n := len(page.Prefixes); n > 0 && prefix <= page.Prefixes[n-1] {
			return fmt.Errorf("server lists out of order: %q after %q", prefix, page.Prefixes[n-1])
		}
		page.Prefixes = append(page.Prefixes, prefix)
	}
	return nil
}

// lastOf is the greatest entry of a page.
func lastOf(page blob.Page) (last string) {
	if n := len(page.Objects); n > 0 {
		last = page.Objects[n-1].Key
	}
	if n := len(page.Prefixes); n > 0 {
		last = max(last, page.Prefixes[n-1])
	}
	return last
}
