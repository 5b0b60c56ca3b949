-- The reader rows of the benchmark as one query somebody writes by hand: sessions split at 30 minutes, the first exposure
-- decides, sessions count that start within seven days of it; what the goal was over the 14 days before stands beside it.
WITH event AS (SELECT * FROM read_parquet($files) WHERE bot = 0 AND late = 0 AND reader <> '' AND source = 'live' AND issued_at < $until),
shown AS (SELECT page_view, reader, issued_at, arm, phase, bucket, outcome FROM event
  WHERE kind = 'exposure' AND experiment = 'related' AND reason <> 'forced' AND arm IN ('status_quo', 'front', 'als')),
late_page AS (SELECT page_view, reader FROM shown WHERE outcome = 'degraded'),
entry AS (SELECT reader, first.arm AS arm, first.phase AS phase, first.at AS exposed_at, first.bucket % 200 AS bucket, arms,
    first.at + 604800000000 <= $until AS matured
  FROM (SELECT reader, count(DISTINCT arm) AS arms, min({'at': issued_at, 'page_view': page_view, 'arm': arm, 'phase': phase, 'bucket': bucket}) AS first
    FROM shown ANTI JOIN late_page ON shown.outcome <> 'degraded' AND shown.page_view = late_page.page_view AND shown.reader = late_page.reader
    GROUP BY reader)),
view AS (SELECT page_view, reader, issued_at, page_type FROM event WHERE kind = 'view' AND prefetch = 0),
opened AS (SELECT *, CASE WHEN issued_at - lag(issued_at) OVER w < 1800000000 THEN 0 ELSE 1 END AS opens FROM view
  WINDOW w AS (PARTITION BY reader ORDER BY issued_at, page_view)),
page AS (SELECT page_view, reader, issued_at, page_type, sum(opens) OVER (PARTITION BY reader ORDER BY issued_at, page_view) AS session FROM opened),
session AS (SELECT reader, session, min(issued_at) AS start, max(issued_at) AS last, count(*) AS pages,
    count(*) FILTER (page_type = 'article') AS articles FROM page GROUP BY reader, session),
counted AS (SELECT s.*, e.exposed_at FROM session s JOIN entry e USING (reader) WHERE start >= exposed_at AND start < exposed_at + 604800000000),
before AS (SELECT reader, count(*) AS sessions, sum(articles) AS articles FROM session s JOIN entry e USING (reader)
  WHERE start >= exposed_at - 1209600000000 AND start < exposed_at AND last + 1800000000 <= exposed_at GROUP BY reader),
seen AS (SELECT reader, page_view, page_type FROM page JOIN counted USING (reader, session)),
time AS (SELECT page_view, reader, least(max(active_ms), 1800000) AS active_ms, max(depth_percent) AS depth FROM event WHERE kind = 'dwell' GROUP BY ALL),
per_session AS (SELECT reader, count(*) AS sessions, sum(articles) AS articles, count(*) FILTER (pages = 1) AS bounces,
    max((start >= exposed_at + 86400000000)::INT) AS returned FROM counted GROUP BY reader),
per_time AS (SELECT reader, sum(active_ms) AS ms, sum(active_ms) FILTER (page_type = 'article') AS article_ms,
    count(*) FILTER (page_type = 'article' AND depth >= 90) AS to_end FROM time JOIN seen USING (page_view, reader) GROUP BY reader),
per_impression AS (SELECT reader, count(*) AS impressions FROM event JOIN seen USING (page_view, reader)
  WHERE kind = 'impression' AND experiment = 'related' AND filled = 1 GROUP BY reader),
per_click AS (SELECT reader, count(*) AS clicks FROM event JOIN seen USING (page_view, reader) WHERE kind = 'click' AND experiment = 'related' GROUP BY reader)
SELECT reader, arm, phase, exposed_at, bucket, matured, arms, coalesce(s.articles, 0)::BIGINT AS articles, coalesce(s.sessions, 0) AS sessions,
  coalesce(bounces, 0) AS bounces, coalesce(returned, 0)::BIGINT AS returned, coalesce(ms, 0)::BIGINT AS ms, coalesce(article_ms, 0)::BIGINT AS article_ms,
  coalesce(to_end, 0) AS to_end, coalesce(impressions, 0) AS impressions, coalesce(clicks, 0) AS clicks, 1::BIGINT AS one,
  coalesce(b.articles, 0)::BIGINT AS articles_before, coalesce(b.sessions, 0) AS sessions_before
FROM entry LEFT JOIN per_session s USING (reader) LEFT JOIN before b USING (reader) LEFT JOIN per_time USING (reader)
LEFT JOIN per_impression USING (reader) LEFT JOIN per_click USING (reader)
WHERE matured ORDER BY reader
