/** Names at the top of DIR that change again while they are being taken over. */

import { execFileSync } from 'node:child_process';
import { readlinkSync, renameSync, symlinkSync } from 'node:fs';
import { expect } from 'chai';
import { NOTHING_FOUND, ServedDirectory, unflushedFs } from '../../support/served-directory.ts';
import { dir, file, lines, readTree, symlink, type Nodes } from '../../support/tree-on-disk.ts';

const VIEW: Nodes = {
  'other.conf': file('other\n'),
  'conf.d': dir(),
  'conf.d/a.conf': file('one\n'),
};

const CONF: Nodes = { 'conf.d': dir(), 'conf.d/a.conf': file('one\n') };

const WITH_LINK: Nodes = { ...VIEW, link: symlink('/x') };

interface Case {
  readonly title: string;
  /** What the view is to begin with; `VIEW` if not given. */
  readonly before?: Nodes;
  /** What is typed: the first part before a look, the others between a look and the publish that follows. */
  readonly steps: readonly string[];
  /** Typed after one more look and publish. */
  readonly later?: string;
  /** What the volume has when the last of it was seen and has not settled, for a while. */
  readonly meanwhile?: Nodes;
  /** The only directory that is looked at for a while. */
  readonly hinted?: string;
  /** What the view is in the end. */
  readonly after: Nodes;
}

const CASES: readonly Case[] = [
  {
    title: 'a new directory whose mode is changed soon after',
    steps: ['mkdir new', 'chmod 700 new; echo in > new/in'],
    after: { ...VIEW, new: dir(0o700), 'new/in': file('in\n') },
  },
  {
    title: 'a new directory in which names are removed and modes changed soon after',
    steps: [
      'mkdir new new/sub; ln -s x new/link; ln -s y new/other',
      'chmod 700 new; chmod 750 new/sub; rm new/link; echo in > new/in',
    ],
    after: {
      ...VIEW,
      new: dir(0o700),
      'new/sub': dir(0o750),
      'new/other': symlink('y'),
      'new/in': file('in\n'),
    },
  },
  {
    title: 'a new directory in which a directory becomes a file soon after',
    steps: ['mkdir new new/sub; ln -s x new/sub/link', 'rm -r new/sub; echo in > new/sub'],
    after: { ...VIEW, new: dir(), 'new/sub': file('in\n') },
  },
  {
    title: 'a directory that becomes a symlink right after a file was made in it',
    steps: ['echo late > conf.d/late; rm -r conf.d; ln -s other.conf conf.d'],
    after: { 'other.conf': VIEW['other.conf']!, 'conf.d': symlink('other.conf') },
  },
  {
    title: 'a directory that becomes a file right after a file was made in it',
    steps: ['echo late > conf.d/late; rm -r conf.d; echo whole > conf.d'],
    after: { 'other.conf': VIEW['other.conf']!, 'conf.d': file('whole\n') },
  },
  {
    title: 'a directory that is removed right after a file was made in it',
    steps: ['echo late > conf.d/late; rm -r conf.d'],
    after: { 'other.conf': VIEW['other.conf']! },
  },
  {
    title: 'a directory that gives way to a file that is moved',
    steps: ['rm -r conf.d; mv other.conf conf.d'],
    after: { 'conf.d': VIEW['other.conf']! },
  },
  {
    title: 'a directory that gives way to a file that is moved, right after a file was made in it',
    steps: ['echo late > conf.d/late; rm -r conf.d; mv other.conf conf.d'],
    after: { 'conf.d': VIEW['other.conf']! },
  },
  {
    title: 'a directory that becomes a file right after a name moved into it',
    steps: ['mv other.conf conf.d/moved; rm -r conf.d; echo whole > conf.d'],
    after: { 'conf.d': file('whole\n') },
  },
  {
    title: 'a directory that becomes a symlink right after a directory moved into it',
    before: { ...VIEW, more: dir(), 'more/f': file('f\n') },
    steps: ['mv more conf.d/moved; rm -r conf.d; ln -s x conf.d'],
    after: { 'other.conf': VIEW['other.conf']!, 'conf.d': symlink('x') },
  },
  {
    title: 'a directory with another one in it that becomes a symlink to itself',
    before: { ...VIEW, 'conf.d/sub': dir(), 'conf.d/sub/f': file('f\n') },
    steps: ['rm -r conf.d; ln -s conf.d conf.d'],
    after: { 'other.conf': VIEW['other.conf']!, 'conf.d': symlink('conf.d') },
  },
  {
    title: 'a directory that becomes a file soon after a name moved into it',
    steps: ['mv other.conf conf.d/moved', 'rm -r conf.d; echo whole > conf.d'],
    after: { 'conf.d': file('whole\n') },
  },
  {
    title: 'a directory that becomes a file soon after a directory moved into it, and a file was edited',
    steps: [
      'mkdir more; echo x > more/x',
      'echo late > conf.d/late; mv more conf.d/moved; rm conf.d/a.conf',
      'rm -r conf.d; echo whole > conf.d',
    ],
    after: { 'other.conf': VIEW['other.conf']!, 'conf.d': file('whole\n') },
  },
  {
    title: 'a directory that becomes a file while something in it is published',
    steps: ['rm -r conf.d; echo whole > conf.d'],
    meanwhile: { ...VIEW, 'conf.d/new': file('new\n') },
    after: { 'other.conf': VIEW['other.conf']!, 'conf.d': file('whole\n') },
  },
  {
    title:
      'a directory that becomes a file right after a file was made in it, while something in it is published',
    steps: ['echo late > conf.d/late; rm -r conf.d; echo whole > conf.d'],
    meanwhile: { ...VIEW, 'conf.d/new': file('new\n') },
    after: { 'other.conf': VIEW['other.conf']!, 'conf.d': file('whole\n') },
  },
  {
    title: 'a directory that becomes a symlink while something in it is published',
    steps: ['rm -r conf.d; ln -s other.conf conf.d'],
    meanwhile: { ...VIEW, 'conf.d/new': file('new\n') },
    after: { 'other.conf': VIEW['other.conf']!, 'conf.d': symlink('other.conf') },
  },
  {
    title: 'a link that is removed again soon after',
    steps: ['ln -s x link', 'rm link'],
    after: VIEW,
  },
  {
    title: 'a directory that is removed again soon after',
    steps: ['mkdir new; ln -s x new/link', 'rm -r new'],
    after: VIEW,
  },
  {
    title: 'a link that leads elsewhere soon after',
    steps: ['ln -s x link', 'ln -sfn y link'],
    after: { ...VIEW, link: symlink('y') },
  },
  {
    title: 'a directory whose mode is changed while something else is published',
    steps: ['ln -s x link', 'chmod 700 conf.d'],
    after: { ...VIEW, 'conf.d': dir(0o700), link: symlink('x') },
  },
  {
    title: 'a name that moves into a directory that is removed then',
    steps: ['mv other.conf conf.d/moved; rm -r conf.d'],
    after: {},
  },
  {
    title:
      'a name that moves over a file in a directory that is removed then, while something else is published',
    steps: ['mv other.conf conf.d/a.conf; rm -r conf.d; ln -s x link'],
    after: { link: symlink('x') },
  },
  {
    title: 'a name that moves on before the tree has followed',
    steps: ['mv other.conf second', 'mv second third'],
    after: { 'conf.d': dir(), 'conf.d/a.conf': file('one\n'), third: file('other\n') },
  },
  {
    title: 'a name that moves into a directory that is renamed then',
    steps: ['mv other.conf conf.d/moved; mv conf.d new'],
    after: { new: dir(), 'new/a.conf': file('one\n'), 'new/moved': file('other\n') },
  },
  {
    title: 'a file that moves into a directory which then takes its name',
    steps: ['mv other.conf conf.d/moved; mv conf.d other.conf'],
    after: { 'other.conf': dir(), 'other.conf/a.conf': file('one\n'), 'other.conf/moved': file('other\n') },
  },
  {
    title: 'a directory that moves into another one which then takes its name',
    steps: ['mkdir ..data/new', ':', 'mv conf.d new/moved; mv new conf.d'],
    after: {
      'other.conf': file('other\n'),
      'conf.d': dir(),
      'conf.d/moved': dir(),
      'conf.d/moved/a.conf': file('one\n'),
    },
  },
  {
    title: 'a file that moves into a directory that is renamed then, while another one takes its name',
    steps: [
      'echo third > ..data/third',
      ':',
      'mv other.conf conf.d/moved; mv conf.d new; mv third other.conf',
    ],
    after: {
      'other.conf': file('third\n'),
      new: dir(),
      'new/a.conf': file('one\n'),
      'new/moved': file('other\n'),
    },
  },
  {
    title: 'a directory that is renamed and then gets a link, while a file takes its old name',
    steps: ['mv conf.d new; mv other.conf conf.d; ln -s x new/late'],
    after: { 'conf.d': file('other\n'), new: dir(), 'new/a.conf': file('one\n'), 'new/late': symlink('x') },
  },
  {
    title: 'a directory that is renamed and then gets a file, while a new file takes its old name',
    steps: ['mv conf.d new; echo whole > conf.d; echo late > new/late'],
    after: {
      'other.conf': VIEW['other.conf']!,
      'conf.d': file('whole\n'),
      new: dir(),
      'new/a.conf': file('one\n'),
      'new/late': file('late\n'),
    },
  },
  {
    title: 'a file that moves into a new directory which then takes its name',
    steps: ['mkdir new; mv other.conf new/moved; mv new other.conf'],
    after: {
      'conf.d': dir(),
      'conf.d/a.conf': file('one\n'),
      'other.conf': dir(),
      'other.conf/moved': file('other\n'),
    },
  },
  {
    title: 'a file that moves into a new directory, while another one takes its name',
    steps: ['mkdir new; mv other.conf new/moved; echo third > other.conf'],
    after: { ...VIEW, 'other.conf': file('third\n'), new: dir(), 'new/moved': file('other\n') },
  },
  {
    title: 'a file that moves into a directory that is made anew, while another one takes its name',
    steps: ['rm conf.d; mkdir conf.d; mv other.conf conf.d/a.conf; echo third > other.conf'],
    after: { 'other.conf': file('third\n'), 'conf.d': dir(), 'conf.d/a.conf': file('other\n') },
  },
  {
    title:
      'a file that moves into a new directory that is still being filled, after another one took its name',
    steps: ['mkdir new; mv other.conf new/moved; echo third > other.conf', ':', 'echo more > new/more'],
    after: {
      ...VIEW,
      'other.conf': file('third\n'),
      new: dir(),
      'new/moved': file('other\n'),
      'new/more': file('more\n'),
    },
  },
  {
    title: 'a file that is written through a name that is removed soon after',
    steps: ['rm other.conf; echo real > other.conf', 'echo more >> other.conf; sleep 0.05; rm other.conf'],
    after: { 'conf.d': dir(), 'conf.d/a.conf': file('one\n') },
  },
  {
    title: 'a file that stands in place of its link, and is replaced in the tree itself',
    steps: [
      'rm other.conf; echo real > other.conf',
      ':',
      'echo new > ..data/x; mv ..data/x ..data/other.conf',
    ],
    after: { ...VIEW, 'other.conf': file('new\n') },
  },
  {
    title:
      'a file that stands in place of its link, and is replaced in the tree itself soon after it was written',
    steps: [
      'rm other.conf; echo real > other.conf',
      ':',
      'echo more >> other.conf; sleep 0.05; echo new > ..data/x; mv ..data/x ..data/other.conf',
    ],
    after: { ...VIEW, 'other.conf': file('new\n') },
  },
  {
    title: 'a file that stands in place of its link, and is written after it was replaced in the tree itself',
    steps: [
      'rm other.conf; echo real > other.conf',
      ':',
      'echo new > ..data/x; mv ..data/x ..data/other.conf; sleep 0.05; echo more >> other.conf',
    ],
    after: { ...VIEW, 'other.conf': file('real\nmore\n') },
  },
  {
    title: 'a file that stands in place of its link, and is removed in the tree itself',
    steps: ['rm other.conf; echo real > other.conf', ':', 'rm ..data/other.conf'],
    after: { 'conf.d': dir(), 'conf.d/a.conf': file('one\n') },
  },
  {
    title: 'a file that stands in place of its link, moves away and comes back after another one was written',
    steps: [
      'rm other.conf; echo real > other.conf',
      ':',
      'mv other.conf backup; echo new > other.conf',
      ':',
      'mv backup other.conf',
    ],
    after: { ...VIEW, 'other.conf': file('real\n') },
  },
  ...(
    [
      ['a name beside it', 'conf.d/b'],
      ['the top', 'moved'],
      ['a new directory', 'new/b'],
    ] as const
  ).flatMap(([where, to]): Case[] => {
    const steps = [`mkdir new; mv conf.d/a.conf ${to}; sleep 0.05; echo more >> ${to}`];
    const after: Nodes = { 'other.conf': file('other\n'), 'conf.d': dir(), new: dir() };
    return [
      {
        title: `a file that is moved to ${where}, written and removed there while something else is published`,
        steps,
        later: `sleep 0.05; rm ${to}`,
        after,
      },
      {
        title: `a file that is moved to ${where}, written and replaced there while something else is published`,
        steps,
        later: `sleep 0.05; echo new > ${to}.tmp; mv ${to}.tmp ${to}`,
        after: { ...after, [to]: file('new\n') },
      },
    ];
  }),
  {
    title: 'a directory made in place of a name that moved and moves back while it is taken over',
    before: WITH_LINK,
    steps: ['mv link new', 'mv new link; mkdir new'],
    after: { ...WITH_LINK, new: dir() },
  },
  {
    title: 'a directory made in place of a name that is being removed',
    steps: ['rm other.conf', 'mkdir other.conf'],
    after: { 'conf.d': dir(), 'conf.d/a.conf': file('one\n'), 'other.conf': dir() },
  },
  {
    title: 'a file made in place of a name that is being removed',
    steps: ['rm other.conf', 'echo again > other.conf'],
    after: { ...VIEW, 'other.conf': file('again\n') },
  },
  {
    title: 'a new file that is carried through a flip and then becomes a directory',
    steps: ['ln -s x link', 'echo new > conf.d/new'],
    later: 'sleep 0.05; rm conf.d/new; mkdir conf.d/new',
    after: { ...VIEW, link: symlink('x'), 'conf.d/new': dir() },
  },
  {
    title: 'a file moved into a new directory',
    steps: ['mkdir new; mv other.conf new/moved'],
    after: { 'conf.d': dir(), 'conf.d/a.conf': file('one\n'), new: dir(), 'new/moved': file('other\n') },
  },
  {
    title: 'a directory moved into a new directory that is being taken over',
    steps: ['mkdir new', 'mv conf.d "new/two words"; ln -s x new/link'],
    after: {
      'other.conf': file('other\n'),
      new: dir(),
      'new/link': symlink('x'),
      'new/two words': dir(),
      'new/two words/a.conf': file('one\n'),
    },
  },
  {
    title: 'a file moved into a directory that is made anew, which is written to while it is taken over',
    steps: [
      'rm -r conf.d; mkdir conf.d; echo in > conf.d/in; mv other.conf conf.d/.hidden',
      'echo out > conf.d/in',
      'echo again > conf.d/in',
    ],
    after: {
      'conf.d': dir(),
      'conf.d/a.conf': file('one\n'),
      'conf.d/in': file('again\n'),
      'conf.d/.hidden': file('other\n'),
    },
  },
  {
    title: 'a directory that still holds a link which was moved into it, after what it led to took its place',
    steps: ['rm conf.d; mkdir conf.d; echo in > conf.d/in; ln -s ..data/gone conf.d/a.conf'],
    after: { ...VIEW, 'conf.d/in': file('in\n') },
  },
  {
    title: 'a directory copied into a new directory',
    steps: ['mkdir new; cp -a conf.d new/copy'],
    after: { ...VIEW, new: dir(), 'new/copy': dir(), 'new/copy/a.conf': file('one\n') },
  },
  {
    title: 'a file moved over one in a directory, of which only the top is looked at',
    steps: ['mv other.conf conf.d/a.conf'],
    hinted: '',
    after: { 'conf.d': dir(), 'conf.d/a.conf': file('other\n') },
  },
  {
    title: 'a directory moved into another one, of which only the top is looked at',
    steps: ['mkdir -p ..data/x; mv conf.d ..data/x/y'],
    hinted: '',
    after: { 'other.conf': file('other\n'), x: dir(), 'x/y': dir(), 'x/y/a.conf': file('one\n') },
  },
  // A symlink of the volume behind the agent's own link: that one is a symlink as well.
  {
    title: 'a symlink moved into a directory that is made anew',
    before: WITH_LINK,
    steps: ['rm other.conf; mkdir other.conf; echo in > other.conf/in; mv link other.conf/a'],
    after: { ...CONF, 'other.conf': dir(), 'other.conf/in': file('in\n'), 'other.conf/a': symlink('/x') },
  },
  {
    title:
      'a symlink moved into a directory that is made anew, in which a name changes while it is taken over',
    before: WITH_LINK,
    steps: [
      'rm other.conf; mkdir other.conf; echo in > other.conf/in; mv link other.conf/a',
      'chmod 700 other.conf/in; mv other.conf/in other.conf/b',
    ],
    after: {
      ...CONF,
      'other.conf': dir(),
      'other.conf/b': file('in\n', 0o700),
      'other.conf/a': symlink('/x'),
    },
  },
  {
    title:
      'a symlink moved over another one in a directory that is made anew and filled while it is taken over',
    before: { ...WITH_LINK, 'conf.d/a': symlink('/old') },
    steps: [
      'rm conf.d; mkdir conf.d; mv link conf.d/a',
      'echo in > conf.d/in',
      'echo more > conf.d/more',
      'echo most > conf.d/most',
    ],
    after: {
      ...VIEW,
      'conf.d/a': symlink('/x'),
      'conf.d/in': file('in\n'),
      'conf.d/more': file('more\n'),
      'conf.d/most': file('most\n'),
    },
  },
  {
    title: 'a symlink moved into a published directory',
    before: WITH_LINK,
    steps: ['mv link conf.d/a'],
    after: { ...VIEW, 'conf.d/a': symlink('/x') },
  },
  {
    title: 'a symlink moved into a new directory and then to one below it',
    before: WITH_LINK,
    steps: ['mkdir new new/sub; mv link new/a', 'mv new/a new/sub/a', 'echo in > new/in'],
    after: { ...VIEW, new: dir(), 'new/sub': dir(), 'new/sub/a': symlink('/x'), 'new/in': file('in\n') },
  },
  {
    title: 'a symlink moved into a new directory, and to one below it after it was followed',
    before: WITH_LINK,
    steps: [
      'mkdir new new/sub; mv link new/a',
      'echo in > new/in',
      'echo more > new/more',
      'mv new/a new/sub/a; echo most > new/most',
    ],
    after: {
      ...VIEW,
      new: dir(),
      'new/sub': dir(),
      'new/sub/a': symlink('/x'),
      'new/in': file('in\n'),
      'new/more': file('more\n'),
      'new/most': file('most\n'),
    },
  },
  ...['link', 'second'].flatMap((back): Case[] => [
    {
      title: `a symlink moved into a new directory and out of it again, as "${back}"`,
      before: WITH_LINK,
      steps: ['mkdir new; mv link new/a', `mv new/a ${back}`],
      after: { ...VIEW, new: dir(), [back]: symlink('/x') },
    },
    {
      title: `a symlink moved into a new directory that is being filled, and out of it again, as "${back}"`,
      before: WITH_LINK,
      steps: ['mkdir new; mv link new/a', 'echo in > new/in', `mv new/a ${back}; echo more > new/more`],
      after: {
        ...VIEW,
        new: dir(),
        'new/in': file('in\n'),
        'new/more': file('more\n'),
        [back]: symlink('/x'),
      },
    },
    {
      title: `a symlink moved into a new directory, and out of it again after it was followed, as "${back}"`,
      before: WITH_LINK,
      steps: [
        'mkdir new; mv link new/a',
        'echo in > new/in',
        'echo more > new/more',
        `mv new/a ${back}; echo most > new/most`,
      ],
      after: {
        ...VIEW,
        new: dir(),
        'new/in': file('in\n'),
        'new/more': file('more\n'),
        'new/most': file('most\n'),
        [back]: symlink('/x'),
      },
    },
    {
      title: `a file moved into a new directory, and out of it again after it was followed, as "${back}"`,
      before: { ...VIEW, link: file('was a link\n') },
      steps: [
        'mkdir new; mv link new/a',
        'echo in > new/in',
        'echo more > new/more',
        `mv new/a ${back}; echo most > new/most`,
      ],
      after: {
        ...VIEW,
        new: dir(),
        'new/in': file('in\n'),
        'new/more': file('more\n'),
        'new/most': file('most\n'),
        [back]: file('was a link\n'),
      },
    },
    {
      title: `a symlink moved into a published directory and out of it again, as "${back}"`,
      before: WITH_LINK,
      steps: ['mv link conf.d/a', `mv conf.d/a ${back}`],
      after: { ...VIEW, [back]: symlink('/x') },
    },
  ]),
  {
    title:
      'a file moved into a new directory and out again after it was followed and another one took its name',
    before: { ...VIEW, link: file('was a link\n') },
    steps: [
      'mkdir new; mv link new/a; echo third > link',
      'echo in > new/in',
      'echo more > new/more',
      'mv new/a second; echo most > new/most',
    ],
    after: {
      ...VIEW,
      new: dir(),
      'new/in': file('in\n'),
      'new/more': file('more\n'),
      'new/most': file('most\n'),
      link: file('third\n'),
      second: file('was a link\n'),
    },
  },
  {
    title: 'a symlink moved into the tree that is not published',
    before: WITH_LINK,
    steps: ['test $(readlink ..data) = ..a; mv link ..b/conf.d/a'],
    after: { ...VIEW, 'conf.d/a': symlink('/x') },
  },
  {
    title: 'a symlink moved into the tree that is not published, which has settled before the next flip',
    before: WITH_LINK,
    steps: ['test $(readlink ..data) = ..a; mv link ..b/conf.d/a', ':'],
    after: { ...VIEW, 'conf.d/a': symlink('/x') },
  },
  {
    title: 'a directory moved into the tree that is not published, which has settled before the next flip',
    before: { ...VIEW, more: dir(), 'more/f': file('f\n') },
    steps: ['test $(readlink ..data) = ..a; mv more ..b/conf.d/a', ':'],
    after: { ...VIEW, 'conf.d/a': dir(), 'conf.d/a/f': file('f\n') },
  },
];

describe('at the top of DIR', () => {
  for (const { title, before = VIEW, steps, later, meanwhile, hinted, after } of CASES) {
    it(title, async () => {
      const served = await ServedDirectory.open();
      const losers: string[] = [];
      try {
        served.publish(before);
        served.catchUp();
        for (const [n, step] of steps.entries()) {
          if (n > 0) await served.lookUntilSettled();
          execFileSync('sh', ['-ec', step], { cwd: served.root, stdio: ['ignore', 'ignore', 'pipe'] });
          // What was typed came between the look and the publish.
          if (n > 0) served.publish(before);
        }
        if (later !== undefined) {
          await served.look();
          served.publish({ ...before, 'other.conf': file('published\n') });
          execFileSync('sh', ['-ec', later], { cwd: served.root, stdio: ['ignore', 'ignore', 'pipe'] });
        }
        if (meanwhile !== undefined) {
          await served.look();
          served.publish(meanwhile);
        }
        for (let round = 0; hinted !== undefined && round < 4; round += 1) {
          await served.look(new Set([hinted]));
          served.clock.pass(700);
          served.publish(before);
        }
        for (let round = 0; round < 3; round += 1) {
          await served.look();
          served.publish(before);
        }
        for (let round = 0; round < 6; round += 1) {
          losers.push(...(await served.lookUntilSettled()).losers);
          served.publish(before);
        }
        served.catchUp();
        expect(await served.lookUntilSettled()).to.deep.equal(NOTHING_FOUND);
        expect(losers).to.deep.equal([]);
        for (const tree of ['..a', '..b']) {
          expect(Object.fromEntries(readTree(`${served.root}/${tree}`)), tree).to.deep.equal(
            Object.fromEntries(lines(after)),
          );
        }
        for (const [name, { type }] of Object.entries(after)) {
          if (type === 'directory' && !name.includes('/'))
            expect(readlinkSync(`${served.root}/${name}`)).to.equal(`..data/${name}`);
        }
      } finally {
        await served.remove();
      }
    });
  }

  it('what a link led to waits as long as the link does, whatever part is looked at', async () => {
    const served = await ServedDirectory.open();
    try {
      served.publish(WITH_LINK);
      served.catchUp();
      await served.lookUntilSettled();
      renameSync(`${served.root}/link`, served.at('conf.d/a'));
      const look = await served.look(new Set(['conf.d']));
      expect(look.edits.size + look.adoptions.size).to.equal(0);
      expect([...look.busy].sort()).to.deep.equal(['conf.d/a', 'link']);
    } finally {
      await served.remove();
    }
  });

  for (const { title, before = WITH_LINK, typed, volume, after } of [
    {
      title: 'the link of a name that moved is mended',
      typed: 'mv link taken',
      volume: WITH_LINK,
      after: { ...CONF, taken: file('other\n') },
    },
    {
      title: 'the link of a name that the volume removes goes',
      before: { ...VIEW, taken: file('taken\n') },
      typed: ':',
      volume: VIEW,
      after: { ...CONF, taken: file('other\n') },
    },
    {
      title: 'the link of a new name comes',
      typed: ':',
      volume: { ...WITH_LINK, taken: file('taken\n') },
      after: { ...CONF, link: symlink('/x'), taken: file('other\n') },
    },
  ]) {
    it(`a name that takes another one in the very moment in which ${title} is the one that stays`, async function () {
      const moved = { at: '' };
      /** What somebody else does between the agent's own look at a name at the top and what it does to it. */
      const meddle = (label: string, root: string): void => {
        if (root === '' || moved.at !== '' || !['symlink top', 'unlink top'].includes(label)) return;
        moved.at = label;
        renameSync(`${root}/other.conf`, `${root}/taken`);
      };
      let root = '';
      const served = await ServedDirectory.open({
        fs: {
          ...unflushedFs,
          symlink(label, target, at) {
            if (target.endsWith('/taken')) meddle(label, root);
            unflushedFs.symlink(label, target, at);
          },
          rename(label, from, to) {
            if (from === `${root}/taken`) meddle(label, root);
            unflushedFs.rename(label, from, to);
          },
          unlink(label, at) {
            if (at === `${root}/taken`) meddle(label, root);
            unflushedFs.unlink(label, at);
          },
        },
      });
      if (!served.abilities.exchanges) this.skip();
      try {
        served.publish(before);
        served.catchUp();
        await served.lookUntilSettled();
        root = served.root;
        execFileSync('sh', ['-ec', typed], { cwd: served.root });
        for (let round = 0; round < 6; round += 1) {
          await served.lookUntilSettled();
          served.publish(volume);
        }
        expect(moved.at).to.not.equal('');
        expect(Object.fromEntries(readTree(`${served.root}/..data`))).to.deep.equal(
          Object.fromEntries(lines(after)),
        );
      } finally {
        await served.remove();
      }
    });
  }

  for (const [where, typed] of [
    ['a published directory', 'mv link ..data/conf.d/a'],
    ['a new directory', 'mkdir new; mv link new/a'],
  ] as const) {
    it(`a link moved into ${where} right before the volume removes what it led to is a problem`, async () => {
      const served = await ServedDirectory.open();
      try {
        served.publish(WITH_LINK);
        served.catchUp();
        await served.lookUntilSettled();
        served.publish(VIEW);
        execFileSync('sh', ['-ec', `ln -s ..data/link link; ${typed}`], { cwd: served.root });
        for (let round = 0; round < 4; round += 1) {
          await served.lookUntilSettled();
          served.publish(VIEW);
        }
        await served.lookUntilSettled();
        const path = typed.endsWith('new/a') ? 'new/a' : 'conf.d/a';
        expect([...served.local.problems.keys()]).to.deep.equal([path]);
        expect(served.local.entryAt(path), 'what counts').to.equal(undefined);
        execFileSync('sh', ['-ec', `rm ..data/${path}`], { cwd: served.root });
        await served.lookUntilSettled();
        expect([...served.local.problems.keys()]).to.deep.equal([]);
      } finally {
        await served.remove();
      }
    });
  }

  // `ln -sf` makes a link under a name of its own and renames it.
  for (const directory of ['', 'conf.d/', 'new/']) {
    for (const nth of [1, 2]) {
      it(`a link in "${directory}" that gets its name when it has been listed ${nth} times`, async () => {
        let left = nth;
        const served = await ServedDirectory.open({
          fs: {
            ...unflushedFs,
            lstat(label, at) {
              const stat = unflushedFs.lstat(label, at);
              if (stat !== undefined && at.endsWith('/CuAbCdEf') && (left -= 1) === 0)
                renameSync(at, at.replace('CuAbCdEf', 'link'));
              return stat;
            },
          },
        });
        try {
          const view = { ...VIEW, new: dir(), 'new/b.conf': file('two\n') };
          served.publish(directory === 'new/' ? VIEW : view);
          served.catchUp();
          if (directory === 'new/')
            execFileSync('sh', ['-ec', 'mkdir new; echo two > new/b.conf'], { cwd: served.root });
          symlinkSync('a.conf', `${served.root}/${directory}CuAbCdEf`);
          for (let round = 0; round < 4; round += 1) {
            await served.lookUntilSettled();
            served.publish(view);
          }
          expect(left).to.be.at.most(0);
          const after = { ...view, [`${directory}link`]: symlink('a.conf') };
          expect(Object.fromEntries(readTree(`${served.root}/..data`))).to.deep.equal(
            Object.fromEntries(lines(after)),
          );
        } finally {
          await served.remove();
        }
      });
    }
  }
});
