/** The types of `find.mjs`, for the tests. */

export declare const projectDir: string;
export declare const cacheDir: string;
export declare function findTool(name: string): string | undefined;
