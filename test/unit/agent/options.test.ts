import { expect } from 'chai';

import { ConfigError } from '../../../src/agent/base/error.ts';
import { defaultAgentId, OPTIONS, OptionValues, parseDuration } from '../../../src/agent/options.ts';

describe('options', () => {
  describe('durations', () => {
    const GOOD: Readonly<Record<string, number>> = {
      0: 0,
      '0s': 0,
      '250ms': 250,
      '5s': 5_000,
      '1.5s': 1_500,
      '10m': 600_000,
      '2h': 7_200_000,
    };
    for (const [text, ms] of Object.entries(GOOD)) {
      it(`${text} is ${ms} ms`, () => expect(parseDuration('x', text)).to.equal(ms));
    }
    for (const text of ['', '5', '-5s', '5 s', 's', '5S', '1e3ms', '5s5s', '1.s', '.5s', 'Infinity', '5d']) {
      it(`${JSON.stringify(text)} is none`, () => {
        expect(() => parseDuration('settle', text)).to.throw(ConfigError, '--settle takes a time such as');
      });
    }
  });

  it('come from what was typed, else the environment, else the default', () => {
    const env = { ETCD_ETC_AGENT_SETTLE: '7s', ETCD_ETC_AGENT_KEEP: '1h' };
    const values = new OptionValues({ settle: '3s' }, env);
    expect(values.durationMs('settle')).to.equal(3_000);
    expect(values.durationMs('keep')).to.equal(3_600_000);
    expect(values.durationMs('min-interval')).to.equal(250);
  });

  it('have one variable each', () => {
    const names = OPTIONS.map(({ env }) => env);
    expect(new Set(names).size).to.equal(OPTIONS.length);
    expect(names).to.include('ETCD_ETC_AGENT_MIN_INTERVAL');
    for (const name of names) expect(name).to.match(/^ETCD_ETC_AGENT_[A-Z_]+$/);
  });

  it('an empty variable is none', () => {
    const values = new OptionValues({}, { ETCD_ETC_AGENT_MODE: '', ETCD_ETC_AGENT_WATCH: '' });
    expect(values.text('mode')).to.equal('two-way');
    expect(values.flag('watch')).to.equal(false);
  });

  it('flags are true or false', () => {
    for (const [text, expected] of [
      ['true', true],
      ['1', true],
      ['false', false],
      ['0', false],
    ] as const) {
      expect(new OptionValues({}, { ETCD_ETC_AGENT_WATCH: text }).flag('watch')).to.equal(expected);
    }
    expect(() => new OptionValues({}, { ETCD_ETC_AGENT_WATCH: 'yes' })).to.throw(
      ConfigError,
      'ETCD_ETC_AGENT_WATCH is true or false, not "yes"',
    );
    // What was typed wins, `--no-watch` included.
    expect(new OptionValues({ watch: false }, { ETCD_ETC_AGENT_WATCH: 'true' }).flag('watch')).to.equal(
      false,
    );
  });

  it('lists are repeated flags, or one variable with commas', () => {
    expect(new OptionValues({ exclude: ['*.bak', 'x,y'] }, {}).list('exclude')).to.deep.equal([
      '*.bak',
      'x,y',
    ]);
    expect(new OptionValues({}, { ETCD_ETC_AGENT_EXCLUDE: '*.bak,,d/e' }).list('exclude')).to.deep.equal([
      '*.bak',
      'd/e',
    ]);
    expect(new OptionValues({}, {}).list('exclude')).to.deep.equal([]);
  });

  it('anything else can be given once', () => {
    expect(() => new OptionValues({ 'state-dir': ['a', 'b'] }, {})).to.throw(
      ConfigError,
      '--state-dir is given more than once',
    );
  });

  it('a choice is one of those named', () => {
    expect(new OptionValues({ mode: 'pull' }, {}).text('mode')).to.equal('pull');
    expect(() => new OptionValues({ mode: 'push' }, {})).to.throw(
      ConfigError,
      '--mode is one of two-way, pull, not "push"',
    );
    expect(() => new OptionValues({}, { ETCD_ETC_AGENT_LOG_LEVEL: 'loud' })).to.throw(ConfigError);
  });

  it('a percentage is from 0 to 100', () => {
    expect(new OptionValues({}, {}).percent('max-delete')).to.equal(50);
    expect(new OptionValues({ 'max-delete': 0 }, {}).percent('max-delete')).to.equal(0);
    expect(new OptionValues({}, { ETCD_ETC_AGENT_MAX_DELETE: '100' }).percent('max-delete')).to.equal(100);
    for (const text of ['101', '-1', 'many', '5%']) {
      const values = new OptionValues({}, { ETCD_ETC_AGENT_MAX_DELETE: text });
      expect(() => values.percent('max-delete'), text).to.throw(ConfigError, 'percentage from 0 to 100');
    }
    expect(() => new OptionValues({ 'max-delete': NaN }, {}).percent('max-delete')).to.throw(ConfigError);
  });

  it('all defaults are values that the options take', () => {
    const values = new OptionValues({}, {});
    for (const { name, type } of OPTIONS) {
      if (type === 'duration') expect(values.durationMs(name), name).to.be.at.least(0);
      if (type === 'number') expect(values.percent(name), name).to.be.at.least(0);
    }
    expect(defaultAgentId()).to.not.equal('');
  });
});
