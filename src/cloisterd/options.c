/* SPDX-License-Identifier: Apache-2.0 */
#include "cloisterd/options.h"

#include <arpa/inet.h>
#include <string.h>

#define UID_BASE_MIN 65536u	/* above every uid of the host's own users */
#define UID_BASE_MAX 4000000000u

typedef int parse_fn(const char *v, void *out, struct cl_err *err);

static int p_dir(const char *v, void *out, struct cl_err *err)
{
	if (v[0] != '/' || strlen(v) > 3000)
		return cl_fail(err, EINVAL, "'%s' is not an absolute path", v);
	*(const char **)out = v;
	return 0;
}

static int p_uid_base(const char *v, void *out, struct cl_err *err)
{
	uint32_t n;

	if (num_parse_u32(span_str(v), UID_BASE_MAX, &n) || n < UID_BASE_MIN)
		return cl_fail(err, EINVAL, "'%s' is not a number of %u to %u", v, UID_BASE_MIN,
			       UID_BASE_MAX);
	*(uint32_t *)out = n;
	return 0;
}

static int p_gid(const char *v, void *out, struct cl_err *err)
{
	if (num_parse_u32(span_str(v), UID_BASE_MAX, out))
		return cl_fail(err, EINVAL, "'%s' is not a group number", v);
	return 0;
}

static int p_user(const char *v, void *out, struct cl_err *err)
{
	struct span rest = span_str(v), uid;
	struct user *u = out;

	if (!span_cut(&rest, ':', &uid) || num_parse_u32(uid, UID_BASE_MAX, &u->uid) ||
	    num_parse_u32(rest, UID_BASE_MAX, &u->gid) || u->uid == 0 || u->gid == 0)
		return cl_fail(err, EINVAL, "'%s' is not UID:GID, both above 0", v);
	return 0;
}

static int p_address(const char *v, void *out, struct cl_err *err)
{
	struct sockaddr_in *a = out;
	struct span rest = span_str(v), host;
	char text[INET_ADDRSTRLEN];
	uint32_t port;

	memset(a, 0, sizeof *a);
	a->sin_family = AF_INET;
	if (strcmp(v, "off") == 0)
		return 0;
	if (!span_cut(&rest, ':', &host) || span_copy(host, text, sizeof text) ||
	    inet_pton(AF_INET, text, &a->sin_addr) != 1 ||
	    num_parse_u32(rest, 65535, &port) || port == 0)
		return cl_fail(err, EINVAL, "'%s' is neither A.B.C.D:PORT nor off", v);
	a->sin_port = htons((uint16_t)port);
	return 0;
}

static int p_fd(const char *v, void *out, struct cl_err *err)
{
	uint32_t n;

	if (num_parse_u32(span_str(v), 1024, &n) || n < 3 || fcntl((int)n, F_GETFD) < 0)
		return cl_fail(err, EINVAL, "'%s' is not an open descriptor above 2", v);
	*(int *)out = (int)n;
	return 0;
}

static const struct row {
	const char *name;
	parse_fn *fn;
	size_t at;
	bool needed;
} rows[] = {
#define AT(f) offsetof(struct options, f)
	{ "--etc", p_dir, AT(etc), true },
	{ "--state", p_dir, AT(state), true },
	{ "--run", p_dir, AT(run), true },
	{ "--images", p_dir, AT(images), true },
	{ "--bin", p_dir, AT(bin), true },
	{ "--share", p_dir, AT(share), false },
	{ "--web", p_dir, AT(web), false },
	{ "--agents", p_dir, AT(agents), false },
	{ "--routes", p_dir, AT(routes), false },
	{ "--uid-base", p_uid_base, AT(uid_base), true },
	{ "--user-broker", p_user, AT(broker), true },
	{ "--user-api", p_user, AT(api), true },
	{ "--user-ledger", p_user, AT(ledger), true },
	{ "--user-spawner", p_user, AT(spawner), true },
	{ "--user-model", p_user, AT(model), true },
	{ "--api-gid", p_gid, AT(api_gid), true },
	{ "--listen", p_address, AT(listen), true },
	{ "--model-listen", p_address, AT(model_listen), true },
	{ "--ready-fd", p_fd, AT(ready_fd), false },
#undef AT
};

static int p_pass(const char *v, struct options *o, struct cl_err *err)
{
	struct span rest = span_str(v), program;

	if (o->npass == PASS_MAX)
		return cl_fail(err, EINVAL, "--pass: more than %d", PASS_MAX);
	if (!span_cut(&rest, ':', &program) || !name_ok(program) ||
	    !span_starts(rest, SPAN("--")))
		return cl_fail(err, EINVAL, "--pass '%s': is not PROGRAM:--name=value", v);
	o->pass[o->npass].program = program;
	o->pass[o->npass++].arg = rest.p;
	return 0;
}

static const struct row *row_for(const char *name)
{
	for (size_t i = 0; i < CL_ARRAY_LEN(rows); i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

int options_parse(int argc, char **argv, struct options *out, struct cl_err *err)
{
	struct options o = { .ready_fd = -1 };
	bool seen[CL_ARRAY_LEN(rows)] = { false };

	for (int i = 1; i < argc; i += 2) {
		const char *name = argv[i], *v = argv[i + 1];
		const struct row *r = row_for(name);

		if (i + 1 >= argc)
			return cl_fail(err, EINVAL, "%s: no value", name);
		if (strcmp(name, "--pass") == 0) {
			if (p_pass(v, &o, err))
				return -err->code;
			continue;
		}
		if (!r)
			return cl_fail(err, EINVAL, "%s: unknown option", name);
		if (seen[r - rows])
			return cl_fail(err, EINVAL, "%s: given twice", name);
		seen[r - rows] = true;
		if (r->fn(v, (char *)&o + r->at, err))
			return cl_wrap(err, "%s", name);
		if (r->at == offsetof(struct options, listen))
			o.listen_text = v;
		if (r->at == offsetof(struct options, model_listen))
			o.model_listen_text = v;
	}
	for (size_t i = 0; i < CL_ARRAY_LEN(rows); i++)
		if (rows[i].needed && !seen[i])
			return cl_fail(err, EINVAL, "%s: missing", rows[i].name);
	if (!o.share && (!o.web || !o.agents || !o.routes))
		return cl_fail(err, EINVAL, "--share, or each of --web --agents --routes: missing");
	*out = o;
	return 0;
}
