/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events - server-sent events.
 *
 * An operator's stream has every event with its body. A browser of one
 * tenant only gets "look again" (`data: {}`) when something of its own
 * conversation changed: it fetches what it may see by itself.
 */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#define TICK_US 20000000
#define PER_TENANT_MAX 16u
#define HEADERS "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n" \
	"X-Content-Type-Options: nosniff\r\n"

struct stream {
	struct wait w;		/* first: on_gone finds it in req->ctx */
	struct stream *next, **prev;
	struct loop_timer tick;
	bool slow;		/* its client does not read: say nothing until it does */
};

static void stream_end(struct stream *s)
{
	loop_timer_del(&s->tick);
	*s->prev = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->w.a->nstreams--;
	free(s);
}

static void gone(struct wait *w)
{
	stream_end((struct stream *)(void *)w);
}

static void put(struct stream *s, struct span text)
{
	/* 1: queued, but nobody reads. An event more for it is dropped: the page
	 * looks by timer as well, and an operator's tool shows what comes. */
	int r = httpd_write(s->w.req, text);

	s->slow = r == 1;
}

static void on_tick(struct loop_timer *t)
{
	struct stream *s = t->ctx;

	put(s, SPAN(": still here\n\n"));
	if (loop_timer_set(s->w.a->loop, t, TICK_US, on_tick, s))
		cl_log(CL_WARNING, "events", "error=\"no timer\"");
}

void events_open(struct api *a, struct httpd_req *r, uint32_t no)
{
	struct stream *s;
	unsigned same = 0;

	for (s = a->streams; s; s = s->next)
		same += s->w.no == no;
	/* one person's browsers must not use up what all have */
	if (no && same >= PER_TENANT_MAX) {
		respond_error(r, 429, "close a window", "this conversation is open in %u windows already", PER_TENANT_MAX);
		return;
	}
	if (a->nstreams >= API_STREAMS_MAX) {
		respond_error(r, 503, "close one", "there are %u event streams already", API_STREAMS_MAX);
		return;
	}
	s = calloc(1, sizeof *s);
	if (!s) {
		respond_error(r, 503, NULL, "no memory");
		return;
	}
	s->w = (struct wait){ .a = a, .req = r, .gone = gone, .no = no, .fd = -1 };
	r->ctx = &s->w;
	s->next = a->streams;
	s->prev = &a->streams;
	if (s->next)
		s->next->prev = &s->next;
	a->streams = s;
	a->nstreams++;
	httpd_start(r, 200, SPAN(HEADERS), UINT64_MAX);
	put(s, SPAN("retry: 2000\n\n"));
	if (loop_timer_set(a->loop, &s->tick, TICK_US, on_tick, s))
		cl_log(CL_WARNING, "events", "error=\"no timer\"");
}

void events_send(struct api *a, const char *name, uint32_t no, struct span json)
{
	CL_BUF struct buf b;

	buf_init(&b, 256 * 1024);
	(void)buf_printf(&b, "event: %s\ndata: ", name);
	/* one line: a JSON text may hold newlines between its tokens */
	for (size_t i = 0; i < json.n; i++)
		(void)buf_add_ch(&b, json.p[i] == '\n' || json.p[i] == '\r' ? ' ' : json.p[i]);
	(void)buf_add_str(&b, "\n\n");
	if (b.failed)
		return;
	for (struct stream *s = a->streams, *next; s; s = next) {
		next = s->next;
		if (s->slow)
			s->slow = false;	/* one event is skipped, then it is tried again */
		else if (s->w.no == 0)
			put(s, buf_span(&b));
		else if (no && s->w.no == no)
			put(s, SPAN("data: {}\n\n"));
	}
}

void events_free(struct api *a)
{
	while (a->streams) {
		struct httpd_req *r = a->streams->w.req;

		r->ctx = NULL;
		stream_end(a->streams);
		httpd_abort(r);
	}
}
