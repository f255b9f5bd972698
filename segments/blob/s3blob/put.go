package s3blob

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/segments/blob"
)

const (
	// maxSinglePut is the largest body sent in one request. Larger ones go in
	// parts, so that one slow connection is not the limit.
	maxSinglePut = 64 << 20
	partSize     = 16 << 20
	maxParts     = 10_000 // what S3 allows
	// partsAtOnce bounds the memory of one upload to as many parts.
	partsAtOnce = 4
	// abortTimeout is for clearing up after a failed upload, which must happen
	// also when the caller's context has ended.
	abortTimeout = 10 * time.Second
)

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	version, err := s.put(ctx, key, body, size, cond)
	if err != nil {
		return "", fmt.Errorf("put %q: %w", key, classify(ctx, err))
	}
	return version, nil
}

func (s *Store) put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	if err := errors.Join(blob.CheckPut(key, size, cond), ctx.Err()); err != nil {
		return "", err
	}
	section, err := newSection(body, size)
	if err != nil {
		return "", err
	}
	if size > maxSinglePut {
		return s.putParts(ctx, key, section, size, cond)
	}
	sum, err := checksum(section)
	if err != nil {
		return "", err
	}
	absent, match := conditions(cond)
	out, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:         &s.bucket,
		Key:            s.full(key),
		Body:           section,
		ContentLength:  &size,
		ChecksumCRC32C: sum,
		IfNoneMatch:    absent,
		IfMatch:        match,
	})
	if err != nil {
		return "", err
	}
	return versionOf(out.ETag), nil
}

// conditions spells cond as the values of If-None-Match and If-Match.
func conditions(cond blob.Condition) (absent, match *string) {
	if cond.IfAbsent {
		absent = aws.String("*")
	}
	if cond.IfMatch != "" {
		match = aws.String(`"` + string(cond.IfMatch) + `"`)
	}
	return absent, match
}

// putParts uploads body in parts. The condition is judged when they are put
// together; until then there is nothing to see.
func (s *Store) putParts(ctx context.Context, key string, body io.Reader, size int64, cond blob.Condition) (blob.Version, error) {
	upload, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket:            &s.bucket,
		Key:               s.full(key),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
	})
	if err != nil {
		return "", err
	}
	version, err := s.finish(ctx, key, upload.UploadId, body, size, cond)
	if err != nil {
		return "", errors.Join(err, s.abort(ctx, key, upload.UploadId))
	}
	return version, nil
}

func (s *Store) finish(ctx context.Context, key string, upload *string, body io.Reader, size int64, cond blob.Condition) (blob.Version, error) {
	parts, err := s.uploadParts(ctx, key, upload, body, size)
	if err != nil {
		return "", err
	}
	absent, match := conditions(cond)
	// Servers may copy everything before they answer.
	out, err := s.client.CompleteMultipartUpload(answering(ctx, size), &s3.CompleteMultipartUploadInput{
		Bucket:          &s.bucket,
		Key:             s.full(key),
		UploadId:        upload,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		IfNoneMatch:     absent,
		IfMatch:         match,
	})
	if err != nil {
		return "", err
	}
	return versionOf(out.ETag), nil
}

// uploadParts sends several parts at once, read one after the other.
func (s *Store) uploadParts(ctx context.Context, key string, upload *string, body io.Reader, size int64) ([]types.CompletedPart, error) {
	length := max(partSize, (size+maxParts-1)/maxParts)
	parts := make([]types.CompletedPart, (size+length-1)/length)
	buffers := sync.Pool{New: func() any { b := make([]byte, length); return &b }}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(partsAtOnce)
	for i := range parts {
		buffer := buffers.Get().(*[]byte)
		part := (*buffer)[:min(length, size-int64(i)*length)]
		if _, err := io.ReadFull(body, part); err != nil {
			group.Go(func() error { return fmt.Errorf("body: %w", err) })
			break
		}
		group.Go(func() (err error) {
			defer buffers.Put(buffer)
			parts[i], err = s.uploadPart(groupCtx, key, upload, int32(i+1), part)
			return err
		})
		if groupCtx.Err() != nil {
			break
		}
	}
	return parts, group.Wait()
}

func (s *Store) uploadPart(ctx context.Context, key string, upload *string, number int32, body []byte) (types.CompletedPart, error) {
	reader := bytes.NewReader(body)
	sum, err := checksum(reader)
	if err != nil {
		return types.CompletedPart{}, err
	}
	out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket:         &s.bucket,
		Key:            s.full(key),
		UploadId:       upload,
		PartNumber:     &number,
		Body:           reader,
		ContentLength:  aws.Int64(int64(len(body))),
		ChecksumCRC32C: sum,
	})
	if err != nil {
		return types.CompletedPart{}, fmt.Errorf("part %d: %w", number, err)
	}
	return types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32C: sum}, nil
}

// abort gives back the space of an upload that failed. If the upload was in fact
// completed and only the reply was lost, this does nothing.
func (s *Store) abort(ctx context.Context, key string, upload *string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &s.bucket, Key: s.full(key), UploadId: upload,
	})
	if err != nil && codeOf(err) != "NoSuchUpload" {
		return fmt.Errorf("abort upload %q: %v", aws.ToString(upload), err) // only told, not classified
	}
	return nil
}

// checksum is the base64 of the big-endian CRC32C of all of body, which is left
// at its start.
func checksum(body io.ReadSeeker) (*string, error) {
	h := crc32.New(blob.Castagnoli)
	if _, err := io.Copy(h, body); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	b := binary.BigEndian.AppendUint32(nil, h.Sum32())
	return aws.String(base64.StdEncoding.EncodeToString(b)), nil
}
