{# A model's schema is what its folder says (staging, intermediate, marts, seeds), without a prefix:
   the marts' names are a promise to their readers. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
