/* SPDX-License-Identifier: Apache-2.0 */
/* cloister - the operator's tool. Words, then options anywhere, by the table of table.c. */
#include "cli/cli.h"
#include "policy/near.h"

#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option global_options[] = {
	{ "dir", 'd', "DIR", false, "everything below DIR instead of the system's root" },
	{ "json", 'j', NULL, false, "machine-readable output" },
	{ "help", 'h', NULL, false, "help for a command" },
};

int cli_fail(int code, const char *fmt, ...)
{
	char words[1200], clean[1200];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof words, fmt, ap);	/* cut off is fine: it is a message */
	va_end(ap);
	utf8_scrub(span_str(words), clean, sizeof clean);
	fprintf(stderr, "cloister: %s\n", clean);
	return code;
}

void cli_put(const char *text)
{
	/* a terminal must not be steered by what an agent wrote */
	for (const char *line = text; *line;) {
		size_t n = strcspn(line, "\n");
		char piece[1024];

		for (size_t at = 0; at < n;) {
			size_t k = n - at < 900 ? n - at : 900;

			while (k > 1 && at + k < n && ((unsigned char)line[at + k] & 0xc0) == 0x80)
				k--;
			utf8_scrub((struct span){ line + at, k }, piece, sizeof piece);
			fputs(piece, stdout);
			at += k;
		}
		line += n;
		if (*line == '\n') {
			putchar('\n');
			line++;
		}
	}
}

const char *cli_opt(const struct cli *c, const char *name)
{
	for (size_t i = 0; i < c->ngiven; i++)
		if (strcmp(c->given[i].o->name, name) == 0)
			return c->given[i].value ? c->given[i].value : "";
	return NULL;
}

int cli_opt_u32(const struct cli *c, const char *name, uint32_t max, uint32_t preset, uint32_t *out)
{
	const char *v = cli_opt(c, name);

	*out = preset;
	if (!v || !*v)
		return 0;
	if (num_parse_u32(span_str(v), max, out)) {
		(void)cli_fail(0, "--%s: '%s' is not a number up to %u", name, v, max);
		return -EINVAL;
	}
	return 0;
}

const char *cli_path(const struct cli *c, const char *below)
{
	static char paths[8][PATH_MAX];
	static unsigned turn;
	char *p = paths[turn++ % 8];

	if (snprintf(p, PATH_MAX, "%s%s", c->dir, below) >= PATH_MAX) {
		fprintf(stderr, "cloister: --dir is too long\n");
		exit(EXIT_USAGE);
	}
	return p;
}

/* ---- help ---------------------------------------------------------------------- */

static void print_options(const struct cli_option *o, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char left[64], letter[8] = "    ";

		if (o[i].letter)
			(void)snprintf(letter, sizeof letter, "-%c, ", o[i].letter);	/* fits */
		(void)snprintf(left, sizeof left, "%s--%s%s%s%s", letter, o[i].name, o[i].value ? " " : "",
			       o[i].maybe ? "[" : "", o[i].value ? o[i].value : "");	/* fits */
		printf("  %s%s%*s %s\n", left, o[i].maybe ? "]" : "",
		       (int)(34 - strlen(left) - (o[i].maybe ? 1 : 0)), "", o[i].help);
	}
}

static void command_help(const struct cli_command *k)
{
	printf("cloister %s %s\n\n  %s\n", k->words, k->args, k->help);
	if (k->noptions) {
		printf("\nOptions:\n");
		print_options(k->options, k->noptions);
	}
	printf("\nAlways:\n");
	print_options(global_options, CL_ARRAY_LEN(global_options));
}

static void help_all(void)
{
	printf("cloister: a sealed agent for every person\n\nUsage: cloister [--dir DIR] COMMAND [ARGUMENTS]\n\n");
	for (size_t i = 0; i < cli_ncommands; i++) {
		char left[64];

		(void)snprintf(left, sizeof left, "%s %s", cli_commands[i].words, cli_commands[i].args);
		printf("  %-32s %s\n", left, cli_commands[i].help);
	}
	printf("\nAlways:\n");
	print_options(global_options, CL_ARRAY_LEN(global_options));
	printf("\nExit: 0 done, 1 failed, 2 usage, 3 the service does not run, 4 not found, 5 not in time.\n");
}

/* how many words of @k stand at the front of @argv; 0: not this one */
static unsigned words_match(const struct cli_command *k, char **argv, unsigned n)
{
	struct span rest = span_str(k->words), word;
	unsigned i = 0;

	for (;;) {
		bool more = span_cut(&rest, ' ', &word);

		if (!more)
			word = rest;
		if (i >= n || !span_eq_str(word, argv[i]))
			return 0;
		i++;
		if (!more)
			return i;
	}
}

static const struct cli_command *find(char **argv, unsigned n, unsigned *out_words)
{
	for (size_t i = 0; i < cli_ncommands; i++) {
		*out_words = words_match(&cli_commands[i], argv, n);
		if (*out_words)
			return &cli_commands[i];
	}
	return NULL;
}

/* commands that begin with the word @first */
static bool group_help(const char *first)
{
	size_t n = strlen(first);
	bool any = false;

	for (size_t i = 0; i < cli_ncommands; i++) {
		const struct cli_command *k = &cli_commands[i];

		if (strncmp(k->words, first, n) != 0 || k->words[n] != ' ')
			continue;
		fprintf(stderr, "%s  cloister %s %s\n", any ? "" : "\n", k->words, k->args);
		any = true;
	}
	return any;
}

int cmd_help(struct cli *c)
{
	unsigned words;
	const struct cli_command *k = c->nargs ? find(c->arg, c->nargs, &words) : NULL;

	if (!c->nargs) {
		help_all();
		return EXIT_OK;
	}
	if (k) {
		command_help(k);
		return EXIT_OK;
	}
	if (group_help(c->arg[0]))
		return EXIT_OK;
	return cli_fail(EXIT_USAGE, "no command '%s'; see cloister help", c->arg[0]);
}

static int unknown(char **argv, unsigned n)
{
	char said[128];
	const char *near;

	if (n > 1)
		(void)snprintf(said, sizeof said, "%s %s", argv[0], argv[1]);	/* cut off is fine */
	else
		(void)snprintf(said, sizeof said, "%s", argv[0]);
	near = near_word(span_str(said), &cli_commands[0].words, cli_ncommands, sizeof cli_commands[0]);
	if (!near && n > 1)
		near = near_word(span_str(argv[0]), &cli_commands[0].words, cli_ncommands,
				 sizeof cli_commands[0]);
	if (near)
		return cli_fail(EXIT_USAGE, "no command '%s'; did you mean 'cloister %s'?", said, near);
	(void)cli_fail(EXIT_USAGE, "no command '%s'; see cloister help", said);
	(void)group_help(argv[0]);
	return EXIT_USAGE;
}

/* ---- options --------------------------------------------------------------------- */

static const struct cli_option *option_in(const struct cli_option *o, size_t n, struct span name, char letter)
{
	for (size_t i = 0; i < n; i++)
		if (letter ? o[i].letter == letter : span_eq_str(name, o[i].name))
			return &o[i];
	return NULL;
}

static int unknown_option(const struct cli_command *k, const char *said)
{
	const char *near = NULL;

	if (said[0] == '-' && said[1] == '-') {
		if (k && k->noptions)
			near = near_word(span_str(said + 2), &k->options[0].name, k->noptions, sizeof k->options[0]);
		if (!near)
			near = near_word(span_str(said + 2), &global_options[0].name,
					 CL_ARRAY_LEN(global_options), sizeof global_options[0]);
	}
	if (near)
		return cli_fail(EXIT_USAGE, "no option '%s'; did you mean --%s?", said, near);
	return cli_fail(EXIT_USAGE, "no option '%s'%s%s; see cloister help", said, k ? " of cloister " : "",
			k ? k->words : "");
}

/*
 * one option at argv[*i] for command @k (NULL: global ones only)
 * Return: 0 taken, *i moved; else EXIT_USAGE
 */
static int take_option(struct cli *c, const struct cli_command *k, char **argv, int argc, int *i, bool *help)
{
	const char *a = argv[*i], *value = NULL;
	struct span name = span_str(a + 2), before;
	bool is_long = a[1] == '-';
	char letter = is_long ? '\0' : a[1];
	const struct cli_option *o = NULL;

	if (is_long && span_cut(&name, '=', &before)) {
		value = name.p;
		name = before;
	}
	if (!is_long && a[2] != '\0')
		value = a + 2;
	if (k && (!is_long || !o))
		o = option_in(k->options, k->noptions, name, letter);
	if (!o)
		o = option_in(global_options, CL_ARRAY_LEN(global_options), name, letter);
	if (!o)
		return unknown_option(k, a);
	if (!o->value && value)
		return cli_fail(EXIT_USAGE, "--%s takes no value", o->name);
	if (o->value && !value) {
		uint32_t number;
		bool next = *i + 1 < argc && (!o->maybe ||
			num_parse_u32(span_str(argv[*i + 1]), UINT32_MAX, &number) == 0);

		if (next)
			value = argv[++*i];
		else if (!o->maybe)
			return cli_fail(EXIT_USAGE, "--%s needs %s", o->name, o->value);
	}
	if (strcmp(o->name, "json") == 0) {
		c->json = true;
	} else if (strcmp(o->name, "help") == 0) {
		*help = true;
	} else if (strcmp(o->name, "dir") == 0) {
		c->dir = value;
	} else {
		if (c->ngiven == CL_ARRAY_LEN(c->given))
			return cli_fail(EXIT_USAGE, "too many options");
		c->given[c->ngiven].o = o;
		c->given[c->ngiven++].value = value;
	}
	return 0;
}

/* the words that name the command may be mixed with global options only */
static int parse(struct cli *c, int argc, char **argv, bool *help)
{
	char *words[4];
	unsigned n = 0, used = 0;
	int i = 1, r;

	for (; i < argc && n < 3 && !c->command; i++) {
		if (argv[i][0] == '-' && argv[i][1] != '\0') {
			r = take_option(c, NULL, argv, argc, &i, help);
			if (r)
				return r;
			continue;
		}
		words[n++] = argv[i];
		c->command = find(words, n, &used);
	}
	if (n == 0)
		return 0;
	if (!c->command) {
		if (n == 1 && group_help(words[0]))
			return cli_fail(EXIT_USAGE, "'%s' needs a word more", words[0]);
		return unknown(words, n);
	}
	for (; i < argc; i++) {
		bool raw = c->command->max == UINT_MAX && c->nargs >= 1;

		if (strcmp(argv[i], "--") == 0) {
			for (i++; i < argc && c->nargs < CLI_ARGS_MAX; i++)
				c->arg[c->nargs++] = argv[i];
			break;
		}
		if (argv[i][0] == '-' && argv[i][1] != '\0' && !raw) {
			r = take_option(c, c->command, argv, argc, &i, help);
			if (r)
				return r;
			continue;
		}
		if (c->nargs == CLI_ARGS_MAX)
			return cli_fail(EXIT_USAGE, "more than %d arguments", CLI_ARGS_MAX);
		c->arg[c->nargs++] = argv[i];
		if (raw || (c->command->max == UINT_MAX && c->nargs == 2)) {
			/* a command of the sandbox: what follows is its own */
			for (i++; i < argc && c->nargs < CLI_ARGS_MAX; i++)
				c->arg[c->nargs++] = argv[i];
			break;
		}
	}
	if (i < argc)
		return cli_fail(EXIT_USAGE, "more than %d arguments", CLI_ARGS_MAX);
	return 0;
}

int main(int argc, char **argv)
{
	static struct cli c;	/* zero; too large for comfort on the stack */
	bool help = false;
	static char dir[PATH_MAX];
	size_t n;
	int r;

	(void)setlocale(LC_CTYPE, "C.UTF-8");	/* absent: output is bytes all the same */
	(void)signal(SIGPIPE, SIG_IGN);
	c.dir = getenv("CLOISTER_DIR");
	r = parse(&c, argc, argv, &help);
	if (r)
		return r;
	/* no slash at the end; absolute, so that a change of directory changes nothing */
	if (c.dir && *c.dir && strcmp(c.dir, "/") != 0) {
		if (c.dir[0] == '/')
			n = (size_t)snprintf(dir, sizeof dir, "%s", c.dir);
		else {
			CL_FREE char *cwd = realpath(".", NULL);

			n = (size_t)snprintf(dir, sizeof dir, "%s/%s", cwd ? cwd : "", c.dir);
		}
		if (n >= sizeof dir)
			return cli_fail(EXIT_USAGE, "--dir is too long");
		while (n > 1 && dir[n - 1] == '/')
			dir[--n] = '\0';
		c.dir = dir;
	} else {
		c.dir = "";
	}
	if (help && c.command) {
		command_help(c.command);
		return EXIT_OK;
	}
	if (!c.command) {
		help_all();
		return help ? EXIT_OK : EXIT_USAGE;
	}
	if (c.nargs < c.command->min || c.nargs > c.command->max)
		return cli_fail(EXIT_USAGE, "usage: cloister %s %s", c.command->words, c.command->args);
	r = c.command->fn(&c);
	if (fflush(stdout) != 0 && r == EXIT_OK)
		r = cli_fail(EXIT_FAILED, "output: cannot be written");
	return r;
}
