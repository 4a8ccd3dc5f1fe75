{# What stands in a schema, by which dbt tells a first build from an increment. Spark's list of
   tables leaves views out, and dbt would then make a table where a view stands. Each row: schema,
   name, whether it is temporary, and what it is. #}
{% macro spark__list_relations_without_caching(relation) %}
    {% set schema = relation if relation is string else relation.without_identifier() %}
    {% set found = [] %}
    {% for row in run_query("show table extended in " ~ schema ~ " like '*'").rows %}
        {% do found.append([row[0], row[1], row[2], row[3]]) %}
    {% endfor %}
    {% for row in run_query('show views in ' ~ schema).rows if not row[2] %}
        {% do found.append([row[0], row[1], false, 'Type: VIEW']) %}
    {% endfor %}
    {% do return(found) %}
{% endmacro %}
