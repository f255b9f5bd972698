package writer

import (
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
)

type deadLetterList struct {
	Entries []DeadLetter `json:"entries"`
}

// retried is how many dead letters were told to try again.
type retried struct {
	Retried int `json:"retried"`
}

func (w *Writer) getDeadLetters(ctx *fasthttp.RequestCtx) error {
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, deadLetterList{w.dead.list()})
}

func (w *Writer) postRetryAll(ctx *fasthttp.RequestCtx) error {
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, retried{w.dead.retryAll()})
}

func (w *Writer) postRetry(ctx *fasthttp.RequestCtx) error {
	if err := deadLetterOf(ctx, w.dead.retryOne); err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, retried{1})
}

func (w *Writer) deleteDeadLetter(ctx *fasthttp.RequestCtx) error {
	if err := deadLetterOf(ctx, w.dead.forget); err != nil {
		return err
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// deadLetterOf does something to the entry that the path names.
func deadLetterOf(ctx *fasthttp.RequestCtx, do func(id string) bool) error {
	id, err := httpapi.Param(ctx, "id")
	if err != nil {
		return err
	}
	return deadLetter(id, do)
}

func deadLetter(id string, do func(id string) bool) error {
	if !do(id) {
		return httpapi.NotFound("dead_letter_not_found", "there is no dead letter %.64q", id).
			WithHint("it may have drained meanwhile")
	}
	return nil
}
