/** The types of `nginx.mjs`, for the tests. */

export declare function prepareNginx(podDir: string, port: number): string[];
