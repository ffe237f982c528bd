/** The YAML parser's complaints in words for people who do not know YAML's grammar. Never repeats the parser's own text: it quotes the file. */

interface Words {
  readonly message: string;
  readonly remedy: string;
}

const QUOTE = "put text with special characters in single quotes: 'like this'";

const WORDS: Readonly<Record<string, Words>> = {
  TAB_AS_INDENT: { message: 'a tab stands where YAML wants spaces', remedy: 'indent with two spaces a level' },
  BAD_INDENT: {
    message: 'the indentation does not fit the lines above',
    remedy: 'line fields of one group up with each other, two spaces deeper than the name of the group',
  },
  BLOCK_AS_IMPLICIT_KEY: {
    message: 'a second `name: value` stands in the same line',
    remedy: `start a new line for it, or ${QUOTE}`,
  },
  BLOCK_IN_FLOW: {
    message: 'a comma is missing between brackets or braces, or they are not closed',
    remedy: 'write { a: 1, b: 2 }, or leave the braces out and write one field a line',
  },
  MULTILINE_IMPLICIT_KEY: {
    message: 'a line is neither `name: value` nor `- item`',
    remedy: 'write a colon and a space behind the name',
  },
  MISSING_CHAR: {
    message: 'a quote, bracket, brace, comma or colon is missing',
    remedy: 'close what was opened above, and write a colon and a space behind each name',
  },
  UNEXPECTED_TOKEN: {
    message: 'this does not belong here',
    remedy: `look for a missing colon, a bracket too many or text that needs quotes; ${QUOTE}`,
  },
  BAD_SCALAR_START: { message: 'text may not start with this character', remedy: QUOTE },
  BAD_ALIAS: {
    message: 'text that starts with `*` refers to an anchor, and there is no such anchor above',
    remedy: QUOTE,
  },
  ALIAS_PROPS: { message: 'an alias has an anchor or a tag', remedy: QUOTE },
  BAD_DQ_ESCAPE: {
    message: 'double quotes give the backslash a meaning, and this one has none',
    remedy: 'use single quotes, in which a backslash is a backslash',
  },
  MULTIPLE_DOCS: {
    message: 'a second document starts here (`---`)',
    remedy: 'remove the `---` line; a config of several files is a folder',
  },
  NON_STRING_KEY: { message: 'the name of a field is not plain text', remedy: 'write `name: value`' },
  TAG_RESOLVE_FAILED: {
    message: 'tags (`!name`) have no meaning here',
    remedy: `for a secret write { env: NAME } or { file: PATH }; ${QUOTE}`,
  },
  BAD_DIRECTIVE: { message: 'this `%` line is not understood', remedy: `remove it; ${QUOTE}` },
  KEY_OVER_1024_CHARS: { message: 'the name of a field is over 1024 characters long', remedy: QUOTE },
  RESOURCE_EXHAUSTION: { message: 'this is nested too deep', remedy: 'write it out flat' },
};

/** Words for one complaint. @param code the parser's @param said its message: looked at, never shown */
export function syntaxWords(code: string, said: string): Words {
  if (code !== 'TAB_AS_INDENT' && /\btabs?\b/i.test(said)) return syntaxWords('TAB_AS_INDENT', '');
  if (/closing .?quote/i.test(said)) {
    return { message: 'a quote is opened above and never closed', remedy: 'close it, in the same line if you can' };
  }
  if (/^Flow (map|sequence) in block/.test(said)) {
    return { message: 'a bracket or brace is opened above and not closed', remedy: 'close it with ] or }' };
  }
  return WORDS[code] ?? { message: 'this is no valid YAML', remedy: QUOTE };
}
