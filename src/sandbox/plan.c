/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoding: "CLPLAN01", then the fields in the order of struct plan: u32 and
 * u64 little endian, bytes as u32 length + bytes. One reader, one writer,
 * one check; nothing may follow the last field.
 */
#include "sandbox/plan.h"

#include <string.h>

#define MAGIC "CLPLAN01"
#define MIB (1024ull * 1024)
#define TIB (1024ull * 1024 * MIB)

/* One row a limit: place, range, name. Order is that of the encoding. */
static const struct limit_row {
	size_t at;
	uint64_t min, max;
	bool zero_ok;
	const char *name;
} limit_rows[] = {
#define LIMIT(f, lo, hi, z) { offsetof(struct plan_limits, f), (lo), (hi), (z), #f }
	LIMIT(memory_bytes, 16 * MIB, TIB, false),
	LIMIT(swap_bytes, 0, TIB, true),
	LIMIT(pids, 8, 32768, false),
	LIMIT(cpu_weight, 1, 10000, false),
	LIMIT(cpu_ceiling_millicores, 10, 1024000, true),
	LIMIT(nofile, 64, 1048576, false),
	LIMIT(tmp_bytes, MIB, TIB, false),
	LIMIT(tmp_inodes, 64, 100000000, false),
	LIMIT(workspace_bytes, MIB, 1024 * TIB, false),
	LIMIT(workspace_inodes, 64, 1000000000, false),
	LIMIT(log_bytes, 65536, 1024 * MIB, false),
#undef LIMIT
};

void plan_limits_standard(struct plan_limits *out)
{
	*out = (struct plan_limits){
		.memory_bytes = 1536 * MIB,
		.swap_bytes = 1024 * MIB,
		.pids = 512,
		.cpu_weight = 100,
		.cpu_ceiling_millicores = 0,
		.nofile = 4096,
		.tmp_bytes = 256 * MIB,
		.tmp_inodes = 32768,
		.workspace_bytes = 2048 * MIB,
		.workspace_inodes = 200000,
		.log_bytes = 8 * MIB,
	};
}

static uint64_t limit_get(const struct plan_limits *l, const struct limit_row *r)
{
	uint64_t v;

	memcpy(&v, (const char *)l + r->at, sizeof v);
	return v;
}

/* ---- check ---------------------------------------------------------------- */

static bool hex64_ok(struct span s)
{
	if (s.n != 64)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
			return false;
	return true;
}

static bool hostname_ok(struct span s)
{
	if (s.n == 0 || s.n > PLAN_HOSTNAME_MAX || s.p[0] == '-' || s.p[s.n - 1] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
		      s.p[i] == '-'))
			return false;
	return true;
}

bool plan_path_ok(struct span s)
{
	size_t start = 1;

	if (s.n < 2 || s.n > PLAN_PATH_MAX || s.p[0] != '/')
		return false;
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
	for (size_t i = 1; i <= s.n; i++) {
		if (i < s.n && s.p[i] != '/')
			continue;
		size_t len = i - start;

		if (len == 0 || (len == 1 && s.p[start] == '.') ||
		    (len == 2 && s.p[start] == '.' && s.p[start + 1] == '.'))
			return false;
		start = i + 1;
	}
	return true;
}

/* Number of NUL-ended strings in @s; -EINVAL when the last is not ended. */
static int count_strings(struct span s)
{
	int n = 0;

	if (s.n && s.p[s.n - 1] != '\0')
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == '\0';
	return n;
}

static bool env_ok(struct span env)
{
	size_t at = 0;

	while (at < env.n) {
		const char *s = env.p + at;
		size_t len = strnlen(s, env.n - at);
		const char *eq = memchr(s, '=', len);

		if (!eq || eq == s)
			return false;
		for (const char *c = s; c < eq; c++)
			if (!((*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || *c == '_' ||
			      (*c >= '0' && *c <= '9' && c > s)))
				return false;
		at += len + 1;
	}
	return true;
}

static int check_strings(const struct plan *p, struct cl_err *err)
{
	int n = p->argv.n <= PLAN_ARGV_MAX ? count_strings(p->argv) : -1;

	if (n < 1 || n > PLAN_STRINGS_MAX)
		return cl_fail(err, EINVAL, "plan: argv must be 1 to %d NUL-ended strings of %d bytes",
			       PLAN_STRINGS_MAX, PLAN_ARGV_MAX);
	if (!plan_path_ok(span_str(p->argv.p)))
		return cl_fail(err, EINVAL, "plan: the command must be an absolute path");
	n = p->env.n <= PLAN_ENV_MAX ? count_strings(p->env) : -1;
	if (n < 0 || n > PLAN_STRINGS_MAX || !env_ok(p->env))
		return cl_fail(err, EINVAL, "plan: env must be at most %d of NAME=value", PLAN_STRINGS_MAX);
	return 0;
}

int plan_check(const struct plan *p, struct cl_err *err)
{
	bool throwaway = p->flags & PLAN_THROWAWAY;
	int r;

	if (p->flags & ~(uint32_t)PLAN_FLAGS_ALL)
		return cl_fail(err, EINVAL, "plan: unknown flag");
	r = check_strings(p, err);
	if (r)
		return r;
	if (!name_ok(p->image))
		return cl_fail(err, EINVAL, "plan: image name not allowed");
	if (!(throwaway && p->image_digest.n == 0) && !hex64_ok(p->image_digest))
		return cl_fail(err, EINVAL, "plan: image digest is not 64 hex digits");
	if (p->config_path.n && !plan_path_ok(p->config_path))
		return cl_fail(err, EINVAL, "plan: configuration path not allowed");
	if (p->config_path.n ? !hex64_ok(p->config_digest) : p->config_digest.n != 0)
		return cl_fail(err, EINVAL, "plan: configuration digest does not fit its path");
	if (!hostname_ok(p->hostname))
		return cl_fail(err, EINVAL, "plan: host name not allowed");
	for (size_t i = 0; i < CL_ARRAY_LEN(limit_rows); i++) {
		const struct limit_row *l = &limit_rows[i];
		uint64_t v = limit_get(&p->limits, l);

		if (!(v == 0 && l->zero_ok) && (v < l->min || v > l->max))
			return cl_fail(err, EINVAL, "plan: %s must be %llu to %llu%s", l->name,
				       (unsigned long long)l->min, (unsigned long long)l->max,
				       l->zero_ok && l->min ? ", or 0" : "");
	}
	if (p->nports > PLAN_PORTS_MAX)
		return cl_fail(err, EINVAL, "plan: more than %d ports", PLAN_PORTS_MAX);
	for (uint32_t i = 0; i < p->nports; i++)
		if (p->ports[i] == 0 || p->ports[i] == SANDBOX_PORT)
			return cl_fail(err, EINVAL, "plan: port %u not allowed", p->ports[i]);
	return 0;
}

/* ---- encode ---------------------------------------------------------------- */

static void put_u32(struct buf *b, uint32_t v)
{
	unsigned char c[4];

	for (int i = 0; i < 4; i++)
		c[i] = (unsigned char)(v >> (8 * i));
	(void)buf_add(b, c, sizeof c);	/* sticky: b->failed */
}

static void put_u64(struct buf *b, uint64_t v)
{
	put_u32(b, (uint32_t)v);
	put_u32(b, (uint32_t)(v >> 32));
}

static void put_bytes(struct buf *b, struct span s)
{
	put_u32(b, (uint32_t)s.n);
	if (s.n)
		(void)buf_add_span(b, s);	/* sticky: b->failed */
}

int plan_encode(const struct plan *p, struct buf *out, struct cl_err *err)
{
	size_t before = out->n;
	bool failed_before = out->failed;
	int r = plan_check(p, err);

	if (r)
		return r;
	(void)buf_add(out, MAGIC, 8);	/* sticky: b->failed, judged once below */
	put_u32(out, p->flags);
	put_bytes(out, p->argv);
	put_bytes(out, p->env);
	put_bytes(out, p->image);
	put_bytes(out, p->image_digest);
	put_bytes(out, p->config_path);
	put_bytes(out, p->config_digest);
	put_bytes(out, p->hostname);
	put_u64(out, p->generation);
	for (size_t i = 0; i < CL_ARRAY_LEN(limit_rows); i++)
		put_u64(out, limit_get(&p->limits, &limit_rows[i]));
	put_u32(out, p->nports);
	for (uint32_t i = 0; i < p->nports; i++)
		put_u32(out, p->ports[i]);
	if (out->failed) {
		out->n = before;
		out->failed = failed_before;
		return cl_fail(err, E2BIG, "plan: larger than %zu bytes, or no memory", out->max);
	}
	return 0;
}

/* ---- decode ---------------------------------------------------------------- */

struct reader {
	struct span in;
	bool bad;	/* sticky */
};

static uint32_t get_u32(struct reader *r)
{
	uint32_t v = 0;

	if (r->bad || r->in.n < 4) {
		r->bad = true;
		return 0;
	}
	for (int i = 0; i < 4; i++)
		v |= (uint32_t)(unsigned char)r->in.p[i] << (8 * i);
	r->in.p += 4;
	r->in.n -= 4;
	return v;
}

static uint64_t get_u64(struct reader *r)
{
	uint64_t lo = get_u32(r);

	return lo | (uint64_t)get_u32(r) << 32;
}

static struct span get_bytes(struct reader *r, size_t max)
{
	struct span s = { NULL, get_u32(r) };

	if (r->bad || s.n > max || s.n > r->in.n) {
		r->bad = true;
		return (struct span){ NULL, 0 };
	}
	s.p = r->in.p;
	r->in.p += s.n;
	r->in.n -= s.n;
	return s;
}

int plan_decode(struct span in, struct plan *out, struct cl_err *err)
{
	struct reader r = { in, false };
	struct plan p = { 0 };
	int e;

	if (in.n < 8 || in.n > PLAN_BYTES_MAX || memcmp(in.p, MAGIC, 8) != 0)
		return cl_fail(err, EBADMSG, "plan: not a plan of this version");
	r.in.p += 8;
	r.in.n -= 8;
	p.flags = get_u32(&r);
	p.argv = get_bytes(&r, PLAN_ARGV_MAX);
	p.env = get_bytes(&r, PLAN_ENV_MAX);
	p.image = get_bytes(&r, 64);
	p.image_digest = get_bytes(&r, 64);
	p.config_path = get_bytes(&r, PLAN_PATH_MAX);
	p.config_digest = get_bytes(&r, 64);
	p.hostname = get_bytes(&r, PLAN_HOSTNAME_MAX);
	p.generation = get_u64(&r);
	for (size_t i = 0; i < CL_ARRAY_LEN(limit_rows); i++) {
		uint64_t v = get_u64(&r);

		memcpy((char *)&p.limits + limit_rows[i].at, &v, sizeof v);
	}
	p.nports = get_u32(&r);
	for (uint32_t i = 0; i < p.nports && i < PLAN_PORTS_MAX; i++) {
		uint32_t port = get_u32(&r);

		if (port > 65535)
			r.bad = true;
		p.ports[i] = (uint16_t)port;
	}
	if (r.bad || r.in.n != 0 || p.nports > PLAN_PORTS_MAX)
		return cl_fail(err, EBADMSG, "plan: malformed");
	e = plan_check(&p, err);
	if (e)
		return e;
	*out = p;
	return 0;
}

int plan_strings(struct span s, char **vec, size_t max)
{
	int n = count_strings(s);
	size_t at = 0;

	if (n < 0)
		return n;
	if ((size_t)n + 1 > max)
		return -E2BIG;
	for (int i = 0; i < n; i++) {
		vec[i] = (char *)(uintptr_t)(s.p + at);
		at += strlen(vec[i]) + 1;
	}
	vec[n] = NULL;
	return n;
}
